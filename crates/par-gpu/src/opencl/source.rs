//! Programs in OpenCL C: kernels as functions, and the loops around them.

use crate::backend::{Arg, Fold, Launch};
use crate::element::Kind;
use crate::kernel::{Piece, Source};
use par_core::ScanKind;
use par_core::fold::LEAF;
use std::fmt::Write;

/// The name of the entry of every program.
pub(super) const ENTRY: &str = "par_entry";

/// Operations on floats that OpenCL C lacks, or leaves open: each is added where its name occurs. `$f` is the type, `$n` its name
/// in Rust, `$s` what ends its literals, `$w` the least number from which on all are whole. Each stands after those that it calls.
///
/// C's own functions that round are not called: PoCL's go through integers, which is undefined for large numbers and NaNs, and its
/// compiler makes anything of it where it knows the argument.
const OF_FLOATS: [(&str, &str); 10] = [
    (
        "par_rint_$n",
        "$f par_rint_$n($f x) {
  const $f a = fabs(x);
  return a < $w$s ? copysign((a + $w$s) - $w$s, x) : x;
}",
    ),
    (
        "par_floor_$n",
        "$f par_floor_$n($f x) {
  const $f r = par_rint_$n(x);
  return r > x ? r - 1.0$s : r;
}",
    ),
    (
        "par_ceil_$n",
        "$f par_ceil_$n($f x) {
  const $f r = par_rint_$n(x);
  return r < x ? copysign(r + 1.0$s, x) : r;
}",
    ),
    (
        "par_trunc_$n",
        "$f par_trunc_$n($f x) { return copysign(par_floor_$n(fabs(x)), x); }",
    ),
    (
        "par_round_$n",
        "$f par_round_$n($f x) {
  const $f t = par_trunc_$n(x);
  return fabs(x - t) >= 0.5$s ? t + copysign(1.0$s, x) : t;
}",
    ),
    (
        "par_min_$n",
        "$f par_min_$n($f a, $f b) { return (b < a || a != a) ? b : a; }",
    ),
    (
        "par_max_$n",
        "$f par_max_$n($f a, $f b) { return (b > a || a != a) ? b : a; }",
    ),
    ("par_div_$n", "$f par_div_$n($f a, $f b) { return a / b; }"),
    ("par_sqrt_$n", "$f par_sqrt_$n($f x) { return sqrt(x); }"),
    (
        "par_powi_$n",
        "$f par_powi_$n($f x, int n) {
  $f square = x, product = 1.0$s;
  for (uint left = n < 0 ? 0u - (uint)n : (uint)n; left != 0; left >>= 1) {
    if (left & 1) product = product * square;
    square = square * square;
  }
  return n < 0 ? 1.0$s / product : product;
}",
    ),
];

/// The helpers whose results some devices round otherwise.
const ROUGH: [&str; 3] = ["par_div_f32", "par_sqrt_f32", "par_powi_f32"];

/// Casts of floats, which saturate: `$i` is the type of the integer, `$m` its name in Rust, `$I` that of its limits, and `$l` the
/// first float above all of them.
const TO_SIGNED: &str = "$i par_$n_$m($f x) {
  return x != x ? 0 : x >= $l$s ? $I_MAX : x <= -$l$s ? $I_MIN : ($i)x;
}";
const TO_UNSIGNED: &str = "$i par_$n_$m($f x) { return !(x > 0) ? 0 : x >= $l$s ? $I_MAX : ($i)x; }";

const INTEGERS: [(Kind, &str, &str, &str); 4] = [
    (Kind::I32, TO_SIGNED, "INT", "2147483648.0"),
    (Kind::U32, TO_UNSIGNED, "UINT", "4294967296.0"),
    (Kind::I64, TO_SIGNED, "LONG", "9223372036854775808.0"),
    (Kind::U64, TO_UNSIGNED, "ULONG", "18446744073709551616.0"),
];

/// All helpers: name and text.
fn helpers() -> Vec<(String, String)> {
    let mut helpers = Vec::new();
    for (float, suffix, whole) in [
        (Kind::F32, "f", "8388608.0"),
        (Kind::F64, "", "4503599627370496.0"),
    ] {
        let of_float = |text: &str| {
            text.replace("$f", float.c_name())
                .replace("$n", float.name())
                .replace("$w", whole)
                .replace("$s", suffix)
        };
        helpers.extend(OF_FLOATS.map(|(name, text)| (of_float(name), of_float(text))));
        helpers.extend(INTEGERS.map(|(int, text, limits, above)| {
            let text = text
                .replace("$i", int.c_name())
                .replace("$m", int.name())
                .replace("$I", limits)
                .replace("$l", above);
            (format!("par_{float}_{int}"), of_float(&text))
        }));
    }
    helpers
}

/// Whether a name stands in a program, as a whole: the kernel `double` is `k0_double` there.
fn names(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| word == name)
}

/// Whether a program has values of `double`.
pub(super) fn needs_fp64(text: &str) -> bool {
    names(text, "double")
}

/// Whether a program has values of `float`.
pub(super) fn needs_fp32(text: &str) -> bool {
    names(text, "float")
}

/// Whether a program divides or takes roots of `float`, which some devices round otherwise.
pub(super) fn divides(text: &str) -> bool {
    ROUGH.iter().any(|name| names(text, name))
}

/// Functions for kernels and what they call, each once.
#[derive(Default)]
struct Functions {
    known: Vec<&'static Source>,
    text: String,
}

impl Functions {
    /// The name of a kernel's function, written first if it is not there.
    fn name(&mut self, source: &'static Source) -> String {
        let place = self.known.iter().position(|known| *known == source);
        let place = place.unwrap_or_else(|| {
            let callees: Vec<String> = source.calls.iter().map(|callee| self.name(callee)).collect();
            let place = self.known.len();
            self.known.push(source);
            self.define(&function_name(place, source), source, &callees);
            place
        });
        function_name(place, source)
    }

    fn define(&mut self, name: &str, source: &Source, callees: &[String]) {
        let params = source.params.iter().enumerate();
        let params: Vec<String> = params
            .map(|(index, kind)| format!("{} p{index}", kind.c_name()))
            .collect();
        let mut text = format!("{} {name}({}) {{\n", source.output.c_name(), params.join(", "));
        for piece in source.body {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Call(index) => text.push_str(callees.get(*index).map_or("", String::as_str)),
                Piece::Value(value) => text.push_str(&value.c_literal()),
            }
        }
        text.push_str("}\n");
        self.text.push_str(&text);
    }

    /// The parameters of an entry for a launch, and the call of its kernel at index `i`.
    fn call(&mut self, launch: &Launch<'_>) -> (String, String) {
        let name = self.name(launch.source);
        let (mut params, mut values) = (String::new(), Vec::new());
        for (index, (arg, kind)) in launch.args.iter().zip(launch.source.params).enumerate() {
            let ty = kind.c_name();
            values.push(match arg {
                Arg::Scalar(_) => {
                    let _ = write!(params, ", const {ty} a{index}");
                    format!("a{index}")
                }
                Arg::Array(..) => {
                    let _ = write!(params, ", __global const {ty} *a{index}");
                    format!("a{index}[i]")
                }
                Arg::Index => "i".to_owned(),
                Arg::Output => "out[i]".to_owned(),
            });
        }
        (params, format!("{name}({})", values.join(", ")))
    }

    /// The whole program: pragmas, the helpers that occur, the functions, and the entry with these parameters after the length
    /// and the output, and this body.
    fn program(&self, out: Kind, params: &str, body: &str) -> String {
        let out = out.c_name();
        let entry =
            format!("__kernel void {ENTRY}(const ulong len, __global {out} *out{params}) {{\n{body}\n}}\n");
        let mut text = String::new();
        if needs_fp64(&self.text) || needs_fp64(&entry) {
            text.push_str("#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n");
        }
        text.push_str("#pragma OPENCL FP_CONTRACT OFF\n");
        let mut called = String::new();
        for (name, helper) in helpers().iter().rev() {
            if names(&self.text, name) || names(&called, name) {
                called = format!("{helper}\n{called}");
            }
        }
        text.push_str(&called);
        text.push_str(&self.text);
        text.push_str(&entry);
        text
    }
}

/// Numbered, as kernels of different modules may have the same name.
fn function_name(place: usize, source: &Source) -> String {
    let readable: String = source
        .name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    format!("k{place}_{readable}")
}

/// The program of a map.
pub(super) fn map(launch: &Launch<'_>) -> String {
    let mut functions = Functions::default();
    let (params, value) = functions.call(launch);
    let body = format!(
        "  const ulong i = get_global_id(0);
  if (i < len) out[i] = {value};"
    );
    functions.program(launch.source.output, &params, &body)
}

/// What the body of an entry that has a leaf is made of.
struct Leaf<'a> {
    /// The type of what is folded.
    ty: &'a str,
    /// The function that joins two values.
    op: &'a str,
    /// The item at index `i`.
    item: &'a str,
    /// The fold of the first item alone.
    first: &'a str,
}

/// A program in which a work-item has a leaf: `body` stands where `i` is the leaf's first index, and `end` follows its last.
/// `more` are parameters after that for what stands before the first item.
fn of_leaves(launch: &Launch<'_>, fold: &Fold, more: &str, body: impl Fn(&Leaf<'_>) -> String) -> String {
    let mut functions = Functions::default();
    let (mut params, item) = functions.call(launch);
    let (op, ty) = (functions.name(fold.source), fold.source.output.c_name());
    let first = match fold.start {
        Some(_) => {
            let _ = write!(params, ", const {ty} start");
            format!("{op}(start, {item})")
        }
        None => item.clone(),
    };
    params.push_str(more);
    let body = body(&Leaf {
        ty,
        op: &op,
        item: &item,
        first: &first,
    });
    let body = format!(
        "  const ulong leaf = get_global_id(0);
  ulong i = leaf * {LEAF};
  if (i >= len) return;
  const ulong end = min(i + {LEAF}, len);
{body}"
    );
    functions.program(fold.source.output, &params, &body)
}

/// The program that folds leaves.
pub(super) fn fold_leaves(launch: &Launch<'_>, fold: &Fold) -> String {
    of_leaves(launch, fold, "", |Leaf { ty, op, item, first }| {
        format!(
            "  {ty} acc = {first};
  for (i += 1; i < end; ++i) acc = {op}(acc, {item});
  out[leaf] = acc;"
        )
    })
}

/// The program that scans leaves.
pub(super) fn scan_leaves(launch: &Launch<'_>, fold: &Fold, kind: ScanKind) -> String {
    let more = format!(", __global const {} *prefixes", fold.source.output.c_name());
    of_leaves(launch, fold, &more, |Leaf { ty, op, item, first }| {
        let show = format!("out[i] = leaf == 0 ? acc : {op}(prefix, acc);");
        let prefix = format!("  const {ty} prefix = prefixes[leaf];\n");
        match kind {
            ScanKind::Inclusive => format!(
                "{prefix}  {ty} acc = {first};
  {show}
  for (i += 1; i < end; ++i) {{
    acc = {op}(acc, {item});
    {show}
  }}"
            ),
            ScanKind::Exclusive => format!(
                "{prefix}  {ty} acc = start;
  for (; i < end; ++i) {{
    {show}
    acc = {op}(acc, {item});
  }}"
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_words() {
        let integers = "int k0_double(int p0) { const int v1_float = p0; return v1_float; }";
        assert!(!needs_fp64(integers) && !needs_fp32(integers) && !divides(integers));
        assert!(needs_fp64("const double t1 = 1e0;") && needs_fp32("__global float *out"));
        assert!(divides("t3 = par_div_f32(t1, t2);") && !divides("t3 = par_div_f64(t1, t2) / 2;"));
        assert!(!divides("k0_par_div_f32(1)"));
    }

    #[test]
    fn helpers_are_written_out() {
        let helpers = helpers();
        assert_eq!(helpers.len(), 2 * (OF_FLOATS.len() + INTEGERS.len()));
        for (name, text) in &helpers {
            assert!(names(text, name), "{name}: {text}");
            assert!(!text.contains('$') && !name.contains('$'), "{name}: {text}");
        }
        for name in ROUGH {
            assert!(helpers.iter().any(|(helper, _)| helper == name), "{name}");
        }
    }
}
