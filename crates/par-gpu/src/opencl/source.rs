//! Programs in OpenCL C: kernels as functions, and the loops around them.

use crate::backend::{Arg, Fold, Launch};
use crate::element::Kind;
use crate::kernel::{Piece, Source};
use par_core::ScanKind;
use par_core::fold::LEAF;
use std::fmt::Write;

/// The name of the entry of every program.
pub(super) const ENTRY: &str = "par_entry";

/// Operations that OpenCL C lacks, or leaves open: each is added where its name occurs.
const HELPERS: &[(&str, &str)] = &[
    ("par_min_f32", "float par_min_f32(float a, float b) { return (b < a || a != a) ? b : a; }"),
    ("par_max_f32", "float par_max_f32(float a, float b) { return (b > a || a != a) ? b : a; }"),
    ("par_min_f64", "double par_min_f64(double a, double b) { return (b < a || a != a) ? b : a; }"),
    ("par_max_f64", "double par_max_f64(double a, double b) { return (b > a || a != a) ? b : a; }"),
    ("par_powi_f32", POWI_F32),
    ("par_powi_f64", POWI_F64),
    (
        "par_f32_i32",
        "int par_f32_i32(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? INT_MAX : x <= -2147483648.0f ? INT_MIN : (int)x;
}",
    ),
    (
        "par_f32_u32",
        "uint par_f32_u32(float x) { return !(x > 0.0f) ? 0u : x >= 4294967296.0f ? UINT_MAX : (uint)x; }",
    ),
    (
        "par_f32_i64",
        "long par_f32_i64(float x) {
  return x != x ? 0L : x >= 9223372036854775808.0f ? LONG_MAX : x <= -9223372036854775808.0f ? LONG_MIN : (long)x;
}",
    ),
    (
        "par_f32_u64",
        "ulong par_f32_u64(float x) {
  return !(x > 0.0f) ? 0UL : x >= 18446744073709551616.0f ? ULONG_MAX : (ulong)x;
}",
    ),
    (
        "par_f64_i32",
        "int par_f64_i32(double x) {
  return x != x ? 0 : x >= 2147483648.0 ? INT_MAX : x <= -2147483649.0 ? INT_MIN : (int)x;
}",
    ),
    (
        "par_f64_u32",
        "uint par_f64_u32(double x) { return !(x > 0.0) ? 0u : x >= 4294967296.0 ? UINT_MAX : (uint)x; }",
    ),
    (
        "par_f64_i64",
        "long par_f64_i64(double x) {
  return x != x ? 0L : x >= 9223372036854775808.0 ? LONG_MAX : x <= -9223372036854775808.0 ? LONG_MIN : (long)x;
}",
    ),
    (
        "par_f64_u64",
        "ulong par_f64_u64(double x) {
  return !(x > 0.0) ? 0UL : x >= 18446744073709551616.0 ? ULONG_MAX : (ulong)x;
}",
    ),
];

const POWI_F32: &str = "float par_powi_f32(float x, int n) {
  float square = x, product = 1.0f;
  for (uint left = abs(n); left != 0; left >>= 1) {
    if (left & 1) product = product * square;
    square = square * square;
  }
  return n < 0 ? 1.0f / product : product;
}";

const POWI_F64: &str = "double par_powi_f64(double x, int n) {
  double square = x, product = 1.0;
  for (uint left = abs(n); left != 0; left >>= 1) {
    if (left & 1) product = product * square;
    square = square * square;
  }
  return n < 0 ? 1.0 / product : product;
}";

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

/// The parameters of an entry, and the call of the kernel at index `i`.
struct Call {
    params: String,
    value: String,
}

fn call(functions: &mut Functions, launch: &Launch<'_>) -> Call {
    let name = functions.name(launch.source);
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
    Call {
        params,
        value: format!("{name}({})", values.join(", ")),
    }
}

/// The whole program: pragmas, the helpers that occur, the functions, the entry.
fn program(functions: &str, entry: &str) -> String {
    let mut text = String::from("#pragma OPENCL FP_CONTRACT OFF\n");
    if needs_fp64(functions) || needs_fp64(entry) {
        text.insert_str(0, "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n");
    }
    for (name, helper) in HELPERS {
        if functions.contains(name) {
            text.push_str(helper);
            text.push('\n');
        }
    }
    text.push_str(functions);
    text.push_str(entry);
    text
}

/// Whether a program has values of `double`.
pub(super) fn needs_fp64(text: &str) -> bool {
    text.contains("double")
}

/// Whether a program has values of `float`.
pub(super) fn needs_fp32(text: &str) -> bool {
    text.contains("float")
}

/// Whether a program divides or takes roots, which some devices round otherwise where they are of `float`.
pub(super) fn divides(text: &str) -> bool {
    text.contains("sqrt(") || text.contains(" / ")
}

/// The program of a map.
pub(super) fn map(launch: &Launch<'_>) -> String {
    let mut functions = Functions::default();
    let Call { params, value } = call(&mut functions, launch);
    let out = launch.source.output.c_name();
    let entry = format!(
        "__kernel void {ENTRY}(const ulong len, __global {out} *out{params}) {{
  const ulong i = get_global_id(0);
  if (i < len) out[i] = {value};
}}\n"
    );
    program(&functions.text, &entry)
}

/// What an entry does before and at each item of the leaf that it folds.
fn first(op: &str, fold: &Fold, value: &str) -> String {
    match fold.start {
        Some(_) => format!("{op}(start, {value})"),
        None => value.to_owned(),
    }
}

/// The parameter for what stands before the first item.
fn start_param(fold: &Fold, kind: Kind) -> String {
    fold.start
        .map_or_else(String::new, |_| format!(", const {} start", kind.c_name()))
}

/// The program that folds leaves, a work-item a leaf.
pub(super) fn fold_leaves(launch: &Launch<'_>, fold: &Fold) -> String {
    let mut functions = Functions::default();
    let Call { params, value } = call(&mut functions, launch);
    let op = functions.name(fold.source);
    let (ty, start) = (fold.source.output.c_name(), start_param(fold, fold.source.output));
    let first = first(&op, fold, &value);
    let entry = format!(
        "__kernel void {ENTRY}(const ulong len, __global {ty} *totals{params}{start}) {{
  const ulong leaf = get_global_id(0);
  ulong i = leaf * {LEAF};
  if (i >= len) return;
  const ulong end = min(i + {LEAF}, len);
  {ty} acc = {first};
  for (i += 1; i < end; ++i) acc = {op}(acc, {value});
  totals[leaf] = acc;
}}\n"
    );
    program(&functions.text, &entry)
}

/// The program that scans leaves, a work-item a leaf.
pub(super) fn scan_leaves(launch: &Launch<'_>, fold: &Fold, kind: ScanKind) -> String {
    let mut functions = Functions::default();
    let Call { params, value } = call(&mut functions, launch);
    let op = functions.name(fold.source);
    let (ty, start) = (fold.source.output.c_name(), start_param(fold, fold.source.output));
    let first = first(&op, fold, &value);
    let body = match kind {
        ScanKind::Inclusive => format!(
            "  {ty} local_acc = {first};
  out[i] = leaf == 0 ? local_acc : {op}(prefix, local_acc);
  for (i += 1; i < end; ++i) {{
    local_acc = {op}(local_acc, {value});
    out[i] = leaf == 0 ? local_acc : {op}(prefix, local_acc);
  }}"
        ),
        ScanKind::Exclusive => format!(
            "  {ty} local_acc = start;
  for (; i < end; ++i) {{
    out[i] = leaf == 0 ? local_acc : {op}(prefix, local_acc);
    local_acc = {op}(local_acc, {value});
  }}"
        ),
    };
    let entry = format!(
        "__kernel void {ENTRY}(const ulong len, __global {ty} *out{params}{start}, __global const {ty} *prefixes) {{
  const ulong leaf = get_global_id(0);
  ulong i = leaf * {LEAF};
  if (i >= len) return;
  const ulong end = min(i + {LEAF}, len);
  const {ty} prefix = prefixes[leaf];
{body}
}}\n"
    );
    program(&functions.text, &entry)
}
