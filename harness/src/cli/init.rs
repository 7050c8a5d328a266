//! `quorate init`: a commented workload to begin with. Overwrites nothing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::arguments::{InitArguments, wrong};
use super::{Exit, Output};
use crate::run::place::quoted;

/// The workload; `NAME` stands for its name and `FILE` for where it is written.
const WORKLOAD: &str = include_str!("init.yaml");

pub(super) fn init(arguments: &InitArguments) -> anyhow::Result<Exit> {
    let file = &arguments.file;
    let text = workload(file);
    let mut written = match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(written) => written,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let what = "is there already and is left as it is; name another file";
            return Err(wrong(&file.display().to_string(), what).into());
        }
        Err(error) => return Err(wrong(&file.display().to_string(), error.to_string()).into()),
    };
    written.write_all(text.as_bytes()).with_context(|| file.display().to_string())?;
    let file = quoted(&file.display().to_string());
    Output.line(format!("{file}: a workload with every block explained"))?;
    Output.line(format!("look first: quorate plan {file}"))?;
    Output.line(format!("run it: quorate run {file}"))?;
    Ok(Exit::Good)
}

/// The text for `file`, with commands that can be copied as they are.
fn workload(file: &Path) -> String {
    WORKLOAD
        // In quotes: `2026` and `true` are names, too.
        .replace("name: NAME\n", &format!("name: \"{}\"\n", name(file)))
        .replace("FILE", &quoted(&file.display().to_string()))
}

/// A name for the experiment after its file: lower-case letters, digits and dashes.
fn name(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.unwrap_or_default().chars().map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "workload".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_from_the_file() {
        for (file, wanted) in [
            ("workload.yaml", "workload"),
            ("some/My first_Test.yaml", "my-first-test"),
            ("-ü-.yaml", "workload"),
        ] {
            assert_eq!(name(Path::new(file)), wanted);
        }
        let text = workload(Path::new("a/b.yaml"));
        assert!(
            text.contains("\nname: \"b\"\n") && text.contains("quorate run a/b.yaml "),
            "{text}"
        );
        assert!(!text.contains("FILE") && !text.contains("NAME"), "{text}");
    }
}
