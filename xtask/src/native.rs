//! Features that need what a plain machine lacks: what each needs, and what `cargo xtask test` runs of it.

use crate::setup::needs::{FAKETIME, IPTABLES, LIBCLANG, MPI, Need, OPENCL, OPENSSL, RABBITMQ, REDIS, VENV};

/// A feature of a crate that builds and runs only where something native is installed.
pub(crate) struct Native {
    pub(crate) package: &'static str,
    pub(crate) feature: &'static str,
    /// What its tests have besides, for who reads their table.
    pub(crate) beside: &'static str,
    needs: &'static [&'static Need],
    /// Whether this program has a feature of that name too, as its benches do more with it.
    pub(crate) benched: bool,
    /// Arguments of `cargo test` that name what the feature adds; its crate's other tests have run without it. None: another has them.
    pub(crate) tests: &'static [&'static str],
}

pub(crate) static MPI_RANKS: Native = Native {
    package: "par-mpi",
    feature: "mpi",
    beside: "",
    needs: &[&MPI, &LIBCLANG],
    benched: true,
    tests: &["--tests"],
};

/// For benches; it is tested with all that par-dist has.
pub(crate) static AMQP: Native = Native {
    package: "par-dist",
    feature: "amqp",
    beside: "",
    needs: &[&RABBITMQ],
    benched: true,
    tests: &[],
};

pub(crate) static CLUSTERS_ON_RABBITMQ: Native = Native {
    beside: " clusters on RabbitMQ",
    needs: &[&RABBITMQ],
    tests: &[
        "--test=laws_amqp",
        "--test=amqp_faults",
        "--test=amqp_input",
        "--test=amqp_programs",
        "--test=amqp_troubles",
        "--",
        "--test-threads=2",
    ],
    ..FULL
};

/// All that par-dist has and its default has not, as far as it needs no server.
pub(crate) static FULL: Native = Native {
    package: "par-dist",
    feature: "full",
    beside: "",
    needs: &[],
    benched: false,
    tests: &["--lib", "--test=app", "--test=app_modes"],
};

pub(crate) static APPS_ON_RABBITMQ: Native = Native {
    beside: " apps on RabbitMQ",
    needs: &[&RABBITMQ, &OPENSSL],
    tests: &["--test=app_rabbit"],
    ..FULL
};

pub(crate) static APPS_ON_REDIS: Native = Native {
    beside: " apps on Redis",
    needs: &[&REDIS, &OPENSSL],
    tests: &["--test=app_redis"],
    ..FULL
};

pub(crate) static CLUSTERS_ON_REDIS: Native = Native {
    beside: " clusters on Redis",
    needs: &[&REDIS, &OPENSSL],
    tests: &["--test=cluster_redis", "--", "--test-threads=2"],
    ..FULL
};

pub(crate) static APPS_IN_TROUBLE: Native = Native {
    beside: " apps on bad networks and clocks",
    needs: &[&RABBITMQ, &REDIS, &OPENSSL, &IPTABLES, &FAKETIME],
    tests: &["--test=app_troubles"],
    ..FULL
};

pub(crate) static CELERY: Native = Native {
    beside: " beside Celery",
    needs: &[&RABBITMQ, &REDIS, &VENV],
    tests: &["--test=app_celery"],
    ..FULL
};

pub(crate) static OPENCL_DEVICES: Native = Native {
    package: "par-gpu",
    feature: "opencl",
    beside: "",
    needs: &[&OPENCL],
    benched: true,
    tests: &["--tests"],
};

/// All of them, in the order in which they are tested.
pub(crate) static NATIVE: [&Native; 10] = [
    &MPI_RANKS,
    &AMQP,
    &FULL,
    &CLUSTERS_ON_RABBITMQ,
    &CLUSTERS_ON_REDIS,
    &APPS_ON_RABBITMQ,
    &APPS_ON_REDIS,
    &APPS_IN_TROUBLE,
    &CELERY,
    &OPENCL_DEVICES,
];

impl Native {
    /// Why the feature cannot be used here, with the command that changes it; nothing where it can.
    pub(crate) fn missing(&self) -> Option<String> {
        let missing: Vec<_> = self.needs.iter().filter(|need| !need.met()).collect();
        let names: Vec<_> = missing.iter().map(|need| need.name).collect();
        let commands: Vec<_> = missing.iter().map(|need| need.command()).collect();
        (!missing.is_empty()).then(|| {
            format!(
                "{}/{} needs {}: {}",
                self.package,
                self.feature,
                names.join(" and "),
                commands.join(" && ")
            )
        })
    }

    /// As cargo takes it in a workspace: the crate's name and the feature's.
    pub(crate) fn qualified(&self) -> String {
        format!("{}/{}", self.package, self.feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::needs::Install;

    static NOTHING: Need = Need {
        name: "a program that is nowhere",
        why: "for nothing",
        required: false,
        probe: || None,
        install: Install::Command("install nothing"),
    };

    static NEEDS_NOTHING: [&Need; 1] = [&NOTHING];

    #[test]
    fn what_is_missing_is_named_with_its_command() {
        let native = Native {
            package: "par-x",
            feature: "y",
            beside: "",
            needs: &NEEDS_NOTHING,
            benched: false,
            tests: &[],
        };
        assert_eq!(
            native.missing().as_deref(),
            Some("par-x/y needs a program that is nowhere: install nothing")
        );
        assert_eq!(native.qualified(), "par-x/y");
        let free = Native { needs: &[], ..native };
        assert_eq!(free.missing(), None);
    }

    #[test]
    fn every_feature_is_declared_by_its_crate() {
        for native in NATIVE {
            let manifest = crate::command::root()
                .join("crates")
                .join(native.package)
                .join("Cargo.toml");
            let manifest: toml_edit::DocumentMut =
                std::fs::read_to_string(manifest).unwrap().parse().unwrap();
            assert!(
                manifest["features"].get(native.feature).is_some(),
                "{}",
                native.qualified()
            );
        }
    }
}
