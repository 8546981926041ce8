//! A file that says what is to be deployed together: bundles with their settings, and pipelines of them.
//!
//! ```toml
//! [deployments.parse]
//! bundle = "parse.muscle"            # relative to the file
//! [deployments.price]
//! bundle = "price.muscle"
//! settings = { cells = 2, bindings = ["quotes=channel:quotes"] }
//! [pipelines]
//! checkout = "parse/run | price/quote"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::NodeError;
use crate::pipeline::Pipeline;
use crate::settings::Settings;

/// The file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentFile {
    /// By the deployments' names.
    pub deployments: BTreeMap<String, Wanted>,
    /// By the pipelines' names.
    pub pipelines: BTreeMap<String, Pipeline>,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Where the bundle is.
    pub bundle: PathBuf,
    /// Settings; those that are left out have their defaults.
    #[serde(default)]
    pub settings: Settings,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Written {
    deployments: BTreeMap<String, Wanted>,
    pipelines: BTreeMap<String, String>,
}

impl DeploymentFile {
    /// Reads a file. Bundles are beside it unless their paths are absolute.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with file, line and key.
    pub fn read(path: &Path) -> Result<DeploymentFile, NodeError> {
        let invalid = |why: String| NodeError::Rejected {
            name: "deployment-file-invalid".into(),
            message: format!("{}: {why}", path.display()),
        };
        let text = std::fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        let mut file = DeploymentFile::parse(&text).map_err(invalid)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for wanted in file.deployments.values_mut() {
            wanted.bundle = folder.join(&wanted.bundle);
        }
        Ok(file)
    }

    fn parse(text: &str) -> Result<DeploymentFile, String> {
        let written: Written =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let pipelines = written.pipelines.into_iter().map(|(name, text)| {
            let pipeline = text.parse::<Pipeline>();
            let pipeline = pipeline.map_err(|error| format!("pipelines.{name}: {error}"))?;
            Ok((name, pipeline))
        });
        Ok(DeploymentFile {
            pipelines: pipelines.collect::<Result<_, String>>()?,
            deployments: written.deployments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole() {
        let text = "[deployments.a]\nbundle = 'a.muscle'\n[deployments.b]\nbundle = '/b.muscle'\n\
                    settings = { cells = 2, priority = { class = 'background' } }\n[pipelines]\np = 'a/f | b/g'\n";
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("desk.toml");
        std::fs::write(&path, text).expect("is written");
        let file = DeploymentFile::read(&path).expect("is one");
        assert_eq!(file.deployments["a"].bundle, folder.path().join("a.muscle"));
        assert_eq!(file.deployments["a"].settings, Settings::default());
        assert_eq!(file.deployments["b"].bundle, Path::new("/b.muscle"));
        assert_eq!(file.deployments["b"].settings.cells, 2);
        assert_eq!(file.pipelines["p"].steps.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("[deployment.a]\nbundle = 'x'", "deployment"),
            ("[deployments.a]\nbundel = 'x'", "bundel"),
            ("[deployments.a]\nbundle = 'x'\nsettings = { cell = 1 }", "cell"),
            ("[pipelines]\np = 'a'", "pipelines.p"),
        ] {
            let why = DeploymentFile::parse(text).expect_err(text);
            assert!(why.contains(word), "{why}");
        }
        let nowhere = DeploymentFile::read(Path::new("/nowhere/desk.toml")).expect_err("is not there");
        assert!(nowhere.to_string().contains("/nowhere/desk.toml"), "{nowhere}");
    }
}
