//! The kit: built where it is not, and started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fmt, fs, io};

use crate::images;

/// The built kit: a folder with its programs.
#[derive(Clone, Debug)]
pub struct Kit {
    folder: PathBuf,
}

/// Why there is no kit on this machine, in words for people.
#[derive(Debug)]
pub struct NoKit(String);

impl fmt::Display for NoKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoKit {}

impl From<io::Error> for NoKit {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Where the kit's sources, the stand-ins and the rest of the workspace are.
pub(crate) fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Kit {
    /// Builds it where it is not built yet, which takes some minutes the first time.
    ///
    /// # Errors
    /// Where it cannot be built or cannot run here, with what to do about it.
    pub fn find() -> Result<Self, NoKit> {
        if !rustix::process::geteuid().is_root() {
            return Err(NoKit("the kit makes namespaces and mounts: it needs root".into()));
        }
        for (program, package) in [("ip", "iproute2"), ("nsenter", "util-linux")] {
            if !on_path(program) {
                return Err(NoKit(format!("the kit needs `{program}`: apt-get install {package}")));
            }
        }
        let built = Command::new(sources().join("kit/build.sh")).stdin(Stdio::null()).output()?;
        if !built.status.success() {
            return Err(NoKit(String::from_utf8_lossy(&built.stderr).trim().to_owned()));
        }
        Ok(Self { folder: PathBuf::from(String::from_utf8_lossy(&built.stdout).trim()) })
    }

    /// Its main program, which is kubectl, too.
    pub fn program(&self) -> PathBuf {
        self.folder.join("kit")
    }

    /// A command that runs a cluster with its files in `dir`; what it is to run there, and flags before that, come as
    /// further arguments.
    ///
    /// # Errors
    /// Where the table of images cannot be written.
    pub fn run(&self, dir: &Path, images: &images::Table) -> io::Result<Command> {
        fs::create_dir_all(dir)?;
        let table = dir.join("images.json");
        fs::write(&table, images.to_json(&self.program(), dir))?;
        let mut command = Command::new(self.program());
        command.arg("run").arg("--dir").arg(dir).arg("--images").arg(table);
        Ok(command)
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
