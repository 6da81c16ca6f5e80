//! Rust source with comments and the insides of literals blanked, so that rules see code only.

/// The same text with comments, strings and character literals replaced by spaces; line breaks stay where they were.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let end = literal_or_comment(&chars, i);
        if end > i {
            out.extend(chars[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            i = end;
        } else if is_word(chars[i]) {
            // A whole word at once: the r of `for"` or of an identifier must not start a raw string.
            while i < chars.len() && is_word(chars[i]) {
                out.push(chars[i]);
                i += 1;
            }
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the comment or literal that starts at `start` ends; `start` itself where none does.
fn literal_or_comment(chars: &[char], start: usize) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    match at(start) {
        '/' if at(start + 1) == '/' => chars[start..]
            .iter()
            .position(|&c| c == '\n')
            .map_or(chars.len(), |n| start + n),
        '/' if at(start + 1) == '*' => block_comment(chars, start),
        '"' => quoted(chars, start + 1, '"'),
        '\'' => character(chars, start),
        'b' | 'c' | 'r' => {
            let mut i = start;
            while matches!(at(i), 'b' | 'c' | 'r') && i < start + 2 {
                i += 1;
            }
            let raw = chars[start..i].contains(&'r');
            let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
            match at(i + hashes) {
                '"' if raw => raw_string(chars, i + hashes + 1, hashes),
                '"' if hashes == 0 => quoted(chars, i + 1, '"'),
                '\'' if hashes == 0 && chars[start..i] == ['b'] => quoted(chars, i + 1, '\''),
                _ => start,
            }
        }
        _ => start,
    }
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (i, depth) = (i + 2, depth + 1),
            ('*', Some('/')) => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i.min(chars.len())
}

fn quoted(chars: &[char], mut i: usize, quote: char) -> usize {
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string(chars: &[char], mut i: usize, hashes: usize) -> usize {
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

/// A character literal; a lifetime is none.
fn character(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => quoted(chars, start + 1, '\''),
        (Some(_), Some('\'')) => start + 3,
        _ => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        for (source, expected) in [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("f(\"a\\\"b\", 'x', '\\'', '\\u{1}')", "f( , , , )"),
            ("let r = r#\"a \"b\" \"# + x", "let r = + x"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("b\"x\" br\"y\\\" b'z' c\"w\" r#type for bar", "r#type for bar"),
        ] {
            let seen = code_only(source);
            assert_eq!(
                seen.split_whitespace().collect::<Vec<_>>(),
                expected.split_whitespace().collect::<Vec<_>>()
            );
            assert_eq!(seen.chars().count(), source.chars().count());
        }
    }

    proptest! {
        #[test]
        fn lines_stay(source in "[a-z\"'/*#\\\\\nr ]{0,60}") {
            let seen = code_only(&source);
            prop_assert_eq!(seen.matches('\n').count(), source.matches('\n').count());
            prop_assert_eq!(seen.chars().count(), source.chars().count());
        }
    }
}
