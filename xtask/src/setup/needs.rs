//! What the workspace can use: how to see whether it is there, and what installs it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program or library that the workspace needs, or uses where it is installed.
pub(crate) struct Need {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    /// Whether the default features cannot do without it.
    pub(crate) required: bool,
    /// Version or place of what is installed.
    pub(crate) probe: fn() -> Option<String>,
    pub(crate) install: Install,
}

/// What installs something.
pub(crate) enum Install {
    /// A command that the user runs.
    Command(&'static str),
    /// Packages of the system, by package manager.
    Packages {
        apt: &'static [&'static str],
        dnf: &'static [&'static str],
        brew: &'static [&'static str],
    },
}

pub(crate) static MPI: Need = Need {
    name: "MPI",
    why: "for ranks as processes: feature `mpi` of par-mpi",
    required: false,
    probe: || version(&["mpicc", "--version"]).and_then(|_| version(&["mpiexec", "--version"])),
    install: Install::Packages {
        apt: &["libopenmpi-dev", "openmpi-bin"],
        dnf: &["openmpi-devel"],
        brew: &["open-mpi"],
    },
};

pub(crate) static LIBCLANG: Need = Need {
    name: "libclang",
    why: "builds the bindings to MPI",
    required: false,
    probe: libclang,
    install: Install::Packages {
        apt: &["libclang-dev"],
        dnf: &["clang-devel"],
        brew: &["llvm"],
    },
};

pub(crate) static OPENCL: Need = Need {
    name: "OpenCL",
    why: "for devices: feature `opencl` of par-gpu",
    required: false,
    probe: opencl,
    install: Install::Packages {
        apt: &["ocl-icd-opencl-dev", "pocl-opencl-icd"],
        dnf: &["ocl-icd-devel", "pocl"],
        brew: &["pocl"],
    },
};

pub(crate) static RABBITMQ: Need = Need {
    name: "RabbitMQ",
    why: "for a broker on the network: feature `amqp` of par-dist",
    required: false,
    probe: rabbitmq,
    install: Install::Packages {
        apt: &["rabbitmq-server"],
        dnf: &["rabbitmq-server"],
        brew: &["rabbitmq"],
    },
};

pub(crate) static REDIS: Need = Need {
    name: "Redis",
    why: "for brokers and results of apps: feature `redis` of par-dist",
    required: false,
    probe: || version(&["redis-server", "--version"]),
    install: Install::Packages {
        apt: &["redis-server"],
        dnf: &["redis"],
        brew: &["redis"],
    },
};

pub(crate) static OPENSSL: Need = Need {
    name: "OpenSSL's program",
    why: "makes the certificates with which par-dist is tested over TLS",
    required: false,
    probe: || version(&["openssl", "version"]),
    install: Install::Packages {
        apt: &["openssl"],
        dnf: &["openssl"],
        brew: &["openssl"],
    },
};

pub(crate) static IPTABLES: Need = Need {
    name: "iptables, and the right to have a network of one's own",
    why: "tests par-dist on a network that loses packets",
    required: false,
    probe: || {
        in_path("ip")?;
        version(&["unshare", "--net", "--", "iptables", "--version"])
    },
    install: Install::Packages {
        apt: &["iproute2", "iptables"],
        dnf: &["iproute", "iptables-nft"],
        brew: &["no network of one's own on this system"],
    },
};

pub(crate) static FAKETIME: Need = Need {
    name: "libfaketime",
    why: "tests par-dist with clocks that jump",
    required: false,
    probe: || {
        let mut places = library_folders().into_iter();
        let file = places.find_map(|folder| {
            let file = folder.join("faketime/libfaketimeMT.so.1");
            file.exists().then_some(file)
        })?;
        Some(file.display().to_string())
    },
    install: Install::Packages {
        apt: &["faketime"],
        dnf: &["libfaketime"],
        brew: &["libfaketime"],
    },
};

pub(crate) static VENV: Need = Need {
    name: "Python with venv",
    why: "tests par-dist beside Celery, which it gets from pip",
    required: false,
    probe: || {
        version(&["python3", "-c", "import ensurepip, venv"])?;
        version(&["python3", "--version"])
    },
    install: Install::Packages {
        apt: &["python3-venv"],
        dnf: &["python3"],
        brew: &["python3"],
    },
};

/// Everything, in the order in which it is told.
pub(crate) static NEEDS: &[&Need] = &[
    &Need {
        name: "Rust compiler",
        why: "builds everything",
        required: true,
        probe: || version(&["rustc", "--version"]),
        install: Install::Command("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"),
    },
    &Need {
        name: "rustfmt",
        why: "format check of `cargo xtask test`",
        required: true,
        probe: || version(&["rustfmt", "--version"]),
        install: Install::Command("rustup component add rustfmt"),
    },
    &Need {
        name: "clippy",
        why: "lints of `cargo xtask test`",
        required: true,
        probe: || version(&["cargo-clippy", "--version"]),
        install: Install::Command("rustup component add clippy"),
    },
    &Need {
        name: "C compiler",
        why: "builds the bundled SQLite of par-dist",
        required: true,
        probe: || {
            ["cc", "gcc", "clang"]
                .iter()
                .find_map(|cc| version(&[cc, "--version"]))
        },
        install: Install::Packages {
            apt: &["gcc", "libc6-dev"],
            dnf: &["gcc"],
            brew: &["llvm"],
        },
    },
    &MPI,
    &LIBCLANG,
    &OPENCL,
    &RABBITMQ,
    &REDIS,
    &OPENSSL,
    &IPTABLES,
    &FAKETIME,
    &VENV,
    &Need {
        name: "mdBook",
        why: "builds the guide",
        required: false,
        probe: || version(&["mdbook", "--version"]),
        install: Install::Command("cargo install mdbook --locked"),
    },
];

impl Need {
    /// Whether the packages of a system have it.
    pub(crate) fn by_packages(&self) -> bool {
        matches!(self.install, Install::Packages { .. })
    }

    /// Whether it is installed.
    pub(crate) fn met(&self) -> bool {
        (self.probe)().is_some()
    }

    /// The exact command that installs it on this machine.
    pub(crate) fn command(&self) -> String {
        let (apt, dnf, brew) = match &self.install {
            Install::Command(command) => return (*command).to_owned(),
            Install::Packages { apt, dnf, brew } => (apt, dnf, brew),
        };
        let sudo = if is_root() { "" } else { "sudo " };
        if in_path("apt-get").is_some() {
            format!(
                "{sudo}apt-get install -y --no-install-recommends {}",
                apt.join(" ")
            )
        } else if in_path("dnf").is_some() {
            format!("{sudo}dnf install -y {}", dnf.join(" "))
        } else if in_path("brew").is_some() {
            format!("brew install {}", brew.join(" "))
        } else {
            format!("the packages that Debian calls {}", apt.join(" "))
        }
    }
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    version(&["id", "-u"]).is_some_and(|id| id == "0")
}

/// First line that the program prints about itself; None where it does not run.
pub(crate) fn version(probe: &[&str]) -> Option<String> {
    let (program, args) = probe.split_first()?;
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Where a program is, by the search path.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Folders where systems keep shared libraries.
fn library_folders() -> Vec<PathBuf> {
    let architecture = std::env::consts::ARCH;
    [
        &*format!("/usr/lib/{architecture}-linux-gnu"),
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
        "/opt/homebrew/opt/llvm/lib",
    ]
    .map(PathBuf::from)
    .into()
}

/// The library that generates bindings, in any version. libclang-cpp.so is another library.
fn libclang() -> Option<String> {
    let mut folders: Vec<_> = std::env::var_os("LIBCLANG_PATH")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    folders.extend(library_folders());
    // Debian keeps each LLVM in a folder of its own.
    folders.extend(entries(Path::new("/usr/lib")).filter_map(|folder| {
        let name = folder.file_name()?.to_string_lossy().into_owned();
        name.starts_with("llvm").then(|| folder.join("lib"))
    }));
    let is_it = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix("libclang").unwrap_or_default();
        let rest = rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
        rest.starts_with(".so") || rest.starts_with(".dylib")
    };
    let file = folders.iter().flat_map(|folder| entries(folder)).find(is_it)?;
    Some(file.display().to_string())
}

/// The loader, in the form that programs are linked with, and at least one driver.
fn opencl() -> Option<String> {
    if cfg!(target_os = "macos") {
        return Some("part of the system".to_owned());
    }
    let vendors = std::env::var_os("OCL_ICD_VENDORS").unwrap_or_else(|| "/etc/OpenCL/vendors".into());
    let drivers: Vec<_> = entries(Path::new(&vendors))
        .filter(|file| file.extension().is_some_and(|end| end == "icd"))
        .filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    let folders = library_folders();
    let loader = folders
        .iter()
        .map(|folder| folder.join("libOpenCL.so"))
        .find(|file| file.exists())?;
    (!drivers.is_empty()).then(|| format!("{} with {}", loader.display(), drivers.join(", ")))
}

/// The server's own start script: the one in the search path may switch to another user.
fn rabbitmq() -> Option<String> {
    let own = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let script = own
        .is_file()
        .then_some(own)
        .or_else(|| in_path("rabbitmq-server"))?;
    in_path("erl").or_else(|| in_path("erlexec"))?;
    Some(script.display().to_string())
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    // A folder that is not there holds nothing.
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_is_found_and_nonsense_is_not() {
        assert!(version(&["rustc", "--version"]).unwrap().starts_with("rustc 1."));
        assert_eq!(version(&["no-such-program-at-all", "--version"]), None);
        assert_eq!(version(&["rustc", "--no-such-option"]), None);
        assert_eq!(version(&[]), None);
        assert!(in_path("cargo").is_some() && in_path("no-such-program-at-all").is_none());
    }

    #[test]
    fn every_need_has_a_command() {
        for need in NEEDS {
            assert!(need.command().contains(' '), "{}", need.name);
        }
    }
}
