//! Command line of the workspace: set-up, tests, benchmarks and recipes.

fn main() {}
