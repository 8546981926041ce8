//! `referee-verify log`: a chain shows that nothing in the middle was changed; what the host's key signed about it shows that the end is
//! still there.

use referee_audit::{Head, verify_each};
use referee_evidence::{SignedHead, check_log, check_receipt, to_hex};

use crate::cli::LogArgs;
use crate::evidence::{read, verdict};
use crate::voucher::{Known, known};

/// Checks, prints, and says whether everything holds.
///
/// # Errors
/// When a file cannot be read.
pub fn run(args: &LogArgs) -> anyhow::Result<bool> {
    let Known {
        mut report,
        evidence,
        key,
    } = known(&args.voucher)?;
    let mut signed: Vec<SignedHead> = Vec::new();
    let mut add = |who: String, records, hash| {
        signed.push(SignedHead {
            who,
            records,
            hash,
            found: None,
        })
    };
    if let Some((records, hash)) = evidence.and_then(|(_, claims)| claims.audit_head) {
        add("the evidence".into(), records, hash);
    }
    for path in &args.receipt {
        let bytes = read(path, "receipt")?;
        if let Some(receipt) = key.and_then(|key| check_receipt(&mut report, &bytes, &key)) {
            add(path.display().to_string(), receipt.log_records, receipt.log_hash);
        }
    }
    let chain = verify_each(&args.file, |head: &Head| {
        for known in signed.iter_mut().filter(|known| known.records == head.records) {
            known.found = Some(head.hash.0);
        }
    });
    let chain = chain.map(|summary| {
        format!(
            "{} records, last {}",
            summary.head.records,
            to_hex(&summary.head.hash.0)
        )
    });
    check_log(&mut report, chain.map_err(|error| error.to_string()), &signed);
    if args.json {
        let value = serde_json::json!({ "holds": report.holds(), "findings": report.findings });
        println!("{value:#}");
    } else {
        println!("{report}{}: {}", args.file.display(), verdict(&report));
    }
    Ok(report.holds())
}
