//! Which program of ours stands for which container image, since the kit reads no image.

use std::path::{Path, PathBuf};

use longshore_testkit::Version;
use serde_json::{Value, json};

use crate::kit::sources;

/// What stands for the images. In patterns, `*` stands for any text, and the longest pattern that matches counts.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The real engine that stands for vLLM's image, instead of a simulated one.
    pub real_vllm: Option<Version>,
    /// Further ones, or others than usual: a pattern, and the command that stands for the entrypoint.
    pub more: Vec<(String, Vec<String>)>,
    /// The folder with our programs, where it is not that of this program's build.
    pub programs: Option<PathBuf>,
}

impl Table {
    /// The table with one more image.
    pub fn with(mut self, pattern: impl Into<String>, command: &[&str]) -> Self {
        self.more.push((pattern.into(), command.iter().map(|&word| word.to_owned()).collect()));
        self
    }

    /// What the kit reads. `kit` is its main program and `dir` the cluster's folder, whose hub stands for what
    /// engines download by themselves.
    pub(crate) fn to_json(&self, kit: &Path, dir: &Path) -> String {
        let programs = self.programs.clone().unwrap_or_else(programs);
        let program = |name: &str| programs.join(name);
        let stand_ins = |name: &str| sources().join("stand-ins").join(name);
        let mut vllm = json!({
            "path": stand_ins("vllm"),
            "env": {
                "KIT_LONGSHORE": program("longshore"),
                "KIT_HUB": dir.join("shared").join("hub"),
            },
        });
        if let Some(version) = self.real_vllm {
            vllm["env"]["KIT_REAL_VLLM"] = json!(version.as_str());
            vllm["env"]["KIT_SERVE"] = json!(sources().join("../vllm/serve.sh"));
        }
        let mut table = json!({
            "*longshore-controller*": [program("longshore-controller")],
            "*longshore-router*": [program("longshore-router")],
            "*longshore/sim-engine*": [program("longshore"), "sim-engine", "--host", "0.0.0.0", "--hub", dir.join("shared").join("hub")],
            "*/longshore:*": [program("longshore")],
            "longshore:*": [program("longshore")],
            "*vllm-openai:*": vllm,
            "*aibrix/runtime:*": {"path": stand_ins("aibrix"), "env": {"KIT": kit}},
            "sh:*": ["sh", "-c"],
        });
        for (pattern, command) in &self.more {
            table[pattern] = Value::from(command.clone());
        }
        format!("{table:#}\n")
    }
}

/// The folder of this build's programs: test programs lie in `deps` below it.
fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(table: &Table) -> Value {
        serde_json::from_str(&table.to_json(Path::new("/cache/kit"), Path::new("/tmp/cluster"))).unwrap()
    }

    #[test]
    fn our_programs_stand_for_our_images() {
        let json = table(&Table { programs: Some("/target/debug".into()), ..Table::default() });
        assert_eq!(json["*longshore-controller*"], json!(["/target/debug/longshore-controller"]));
        assert_eq!(json["*vllm-openai:*"]["env"]["KIT_LONGSHORE"], "/target/debug/longshore");
        assert_eq!(json["*vllm-openai:*"]["env"]["KIT_REAL_VLLM"], Value::Null);
    }

    #[test]
    fn a_test_can_have_others_and_the_real_engine() {
        let asked = Table { real_vllm: Some(Version::V0_32_0), ..Table::default() }.with("sh:*", &["bash", "-c"]);
        let json = table(&asked);
        assert_eq!(json["*vllm-openai:*"]["env"]["KIT_REAL_VLLM"], "0.32.0");
        assert_eq!(json["sh:*"], json!(["bash", "-c"]));
    }
}
