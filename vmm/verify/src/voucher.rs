//! Whose an instance key is: evidence says it, or whoever calls knows.

use anyhow::bail;
use referee_evidence::{Claims, Evidence, InstanceKey, Report, Token, check};

use crate::cli::VoucherArgs;
use crate::evidence::{read, read_reference};

/// What is known of a host.
#[derive(Debug, Default)]
pub struct Known {
    /// What was checked on the way.
    pub report: Report,
    /// The evidence, if there is some that can be read.
    pub evidence: Option<(Evidence, Claims)>,
    /// The instance key.
    pub key: Option<InstanceKey>,
}

impl Known {
    /// What the host claims, if there is evidence.
    pub fn claims(&self) -> Option<&Claims> {
        self.evidence.as_ref().map(|(_, claims)| claims)
    }
}

/// Checks the evidence, if there is some.
///
/// # Errors
/// When a file cannot be read.
pub fn known(args: &VoucherArgs) -> anyhow::Result<Known> {
    match (&args.evidence, &args.nonce, &args.reference, &args.instance_key) {
        (Some(path), Some(nonce), Some(reference), _) => {
            let bytes = read(path, "evidence")?;
            let report = check(&bytes, &nonce.0, &read_reference(reference)?);
            let parsed = || {
                let evidence = Evidence::parse(&bytes).ok()?;
                let claims = Token::parse(&evidence.token).ok()?.claims().ok()?;
                Some((evidence, claims))
            };
            let evidence = parsed();
            let key = evidence.as_ref().map(|(_, claims)| claims.instance());
            Ok(Known {
                report,
                evidence,
                key,
            })
        }
        (None, _, _, Some(key)) => Ok(Known {
            key: Some(InstanceKey::classical(key.0)),
            ..Known::default()
        }),
        _ => bail!("--evidence with --nonce and --reference, or --instance-key"),
    }
}
