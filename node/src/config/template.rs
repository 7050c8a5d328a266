//! The template of databases' distributed configurations: read and checked with the settings, put
//! into the data folder where there is none. May not know what databases there are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate_control::distributed::{
    ConfigError, Defaults, DistributedConfig, Role, SHIPPED_TEMPLATE, Supported, Unsupported,
    Warning,
};
use quorate_control::members::Members;

use crate::runtime::data_dir::{self, DataError};

/// Its folder, below that of the data.
const FOLDER: &str = "config";
/// Its name, as in the original.
const FILE: &str = "default-distributed-db-config.json";

/// A template that this server can keep.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where it was read, or shall be.
    pub path: PathBuf,
    /// What databases get that do not say otherwise.
    pub defaults: Defaults,
    /// Servers that it names as witnesses.
    pub witnesses: Vec<String>,
    /// What a person should know about it.
    pub warnings: Vec<Warning>,
    /// The data folder, when it has no template yet.
    missing_in: Option<PathBuf>,
}

/// Why a template is refused.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is no distributed configuration.
    #[error("{}: {source}", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        source: ConfigError,
    },
    /// It asks for what this server cannot do.
    #[error("{}", lines(.path, .refused))]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// Everything it cannot do.
        refused: Vec<Unsupported>,
    },
}

/// One refusal a line.
fn lines(path: &Path, refused: &[Unsupported]) -> String {
    let lines = refused.iter().map(|one| format!("{}: {one}", path.display()));
    lines.collect::<Vec<_>>().join("\n")
}

impl Template {
    /// Reads the file given, else the one in the data folder, else what is shipped.
    ///
    /// # Errors
    /// The file given is not there, or a file is no template that these MASTERs can keep.
    pub fn load(
        given: Option<PathBuf>,
        data: &Path,
        masters: &Members,
    ) -> Result<Self, TemplateError> {
        let is_given = given.is_some();
        let path = given.unwrap_or_else(|| data.join(FOLDER).join(FILE));
        let (text, missing_in) = match fs::read(&path) {
            Ok(text) => (text, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_given => {
                (SHIPPED_TEMPLATE.into(), Some(data.to_path_buf()))
            }
            Err(source) => return Err(TemplateError::Read { path, source }),
        };
        let parsed = match DistributedConfig::parse(&text) {
            Ok(parsed) => parsed,
            Err(source) => return Err(TemplateError::Parse { path, source }),
        };
        let roles = parsed.config.servers.iter();
        let witnesses = roles.filter(|(_, role)| **role == Role::Witness);
        let witnesses = witnesses.map(|(name, _)| name.clone()).collect();
        match parsed.config.supported(masters) {
            Ok(Supported { defaults, warnings }) => {
                let warnings = parsed.warnings.into_iter().chain(warnings).collect();
                Ok(Self { path, defaults, witnesses, warnings, missing_in })
            }
            Err(refused) => Err(TemplateError::Unsupported { path, refused }),
        }
    }

    /// Writes the shipped template where the data folder has none, for people to find and change.
    /// To be called by the owner of the folder alone.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_in_place(&self) -> Result<(), DataError> {
        let Some(data) = &self.missing_in else { return Ok(()) };
        let folder = data_dir::folder(data, FOLDER)?;
        data_dir::replace(&folder, FILE, SHIPPED_TEMPLATE.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: Option<&Path>, data: &Path) -> Result<Template, String> {
        let masters = "n1,n2".parse().unwrap();
        let loaded = Template::load(given.map(Path::to_path_buf), data, &masters);
        loaded.map_err(|error| error.to_string())
    }

    /// FEATURES: S5
    #[test]
    fn the_shipped_template_is_put_where_there_is_none_and_an_edited_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let shipped = load(None, dir.path()).unwrap();
        let file = dir.path().join("config/default-distributed-db-config.json");
        assert!(!file.exists(), "the folder may be another server's");
        shipped.put_in_place().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), SHIPPED_TEMPLATE);
        assert_eq!((&shipped.path, shipped.defaults), (&file, Defaults::default()));
        let edited = SHIPPED_TEMPLATE.replace("\"majority\"", "\"all\"");
        fs::write(&file, &edited).unwrap();
        let found = load(None, dir.path()).unwrap();
        assert_eq!(found.defaults.write_quorum.to_string(), "all");
        found.put_in_place().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), edited);
    }

    #[test]
    fn a_template_that_is_not_there_or_cannot_be_kept_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.json");
        let missing = load(Some(&file), dir.path()).unwrap_err();
        assert!(missing.contains("mine.json: No such file"), "{missing}");
        fs::write(&file, r#"{"writeQuorum":0,"clusters":{}}"#).unwrap();
        let bad = load(Some(&file), dir.path()).unwrap_err();
        assert!(bad.contains("mine.json: writeQuorum: 0 is not legal"), "{bad}");
        fs::write(&file, r#"{"servers":{"*":"replica"},"clusters":{}}"#).unwrap();
        let refused = load(Some(&file), dir.path()).unwrap_err();
        assert_eq!(refused.lines().filter(|l| l.contains("mine.json: ")).count(), 3, "{refused}");
    }
}
