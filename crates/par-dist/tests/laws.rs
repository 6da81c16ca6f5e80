//! The laws on the cluster engine, with workers that the pool starts itself.

use par_dist::{ClusterEngine, par_core};

par_core::conformance::stamp!(cluster, [1, 3], |setup| setup.start::<ClusterEngine>());
