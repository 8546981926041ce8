//! `cargo muscle new`.

use std::path::PathBuf;

use super::arguments::New;
use crate::error::Error;
use crate::template::{Template, write_template};

pub(super) fn run(arguments: &New) -> Result<String, Error> {
    let last_label = arguments.name.rsplit('.').next().unwrap_or(&arguments.name);
    let folder = arguments
        .folder
        .clone()
        .unwrap_or_else(|| PathBuf::from(last_label));
    write_template(&Template {
        name: arguments.name.clone(),
        folder: folder.clone(),
        reactor: arguments.reactor,
        sdk: arguments.sdk.clone().ok_or(Error::SdkUnknown)?,
    })?;
    Ok(format!(
        "made {0}; next: cd {0} && cargo muscle build\n",
        folder.display()
    ))
}
