//! Rule over Markdown: local files named by a link exist.

use super::{Tree, Violation};
use std::path::Path;

/// Links of README, docs and the other pages point at files that are there.
pub(super) fn local_files(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in tree.ending(".md") {
        let folder = tree
            .root
            .join(path)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for (line, target) in targets(text) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !folder.join(file).exists() {
                violations.push(Violation::new(
                    path,
                    line,
                    format!("the link to {file} leads nowhere"),
                ));
            }
        }
    }
    violations
}

/// Lines, from 1, and targets of the local links outside code.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fence = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fence = !fence;
        }
        if fence {
            continue;
        }
        // Every second piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            // Code as a link's text leaves only the bracket and the target in this piece.
            for rest in prose.split("](").skip(1) {
                found.extend(rest.split_once(')').map(|(target, _)| (index + 1, target)));
            }
        }
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            found.push((index + 1, target));
        }
    }
    found
        .into_iter()
        .filter_map(|(line, target)| Some((line, local(target)?)))
        .collect()
}

/// The path of a link, without a title; None for one that leads out of the tree.
fn local(target: &str) -> Option<&str> {
    let path = target
        .trim()
        .trim_start_matches('<')
        .split([' ', '>'])
        .next()
        .unwrap_or_default();
    let outside = path.contains("://") || path.starts_with("mailto:") || path.starts_with('#');
    (!outside && !path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let page = "[a](there.md#part)\n[b](gone.md) and [`c`](gone.rs \"title\")\n[d]: <lost.md>\n";
        let seen = found(local_files, &[("docs/page.md", page), ("docs/there.md", "")]);
        assert_eq!(seen, ["docs/page.md:2", "docs/page.md:2", "docs/page.md:3"]);
    }

    #[test]
    fn other_links_and_code_are_left_alone() {
        let page = "[a](https://example.org/x) [b](#part) [c](mailto:x@y)\n`v[0](x)`\n```\n[e](gone.md)\n```\n[f](../up.md)\n";
        assert!(found(local_files, &[("docs/page.md", page), ("up.md", "")]).is_empty());
    }
}
