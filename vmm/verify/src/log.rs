//! `referee-verify log`: a chain shows that nothing in the middle was changed; what the host's key signed about it shows that the end is
//! still there.

use referee_audit::{Head, verify_each};
use referee_evidence::{SignedHead, check_anchor, check_log, check_receipt, to_hex};
use referee_tlog::Leaves;

use crate::checkpoint::{Signers, check_tree, read_checkpoint};
use crate::cli::LogArgs;
use crate::evidence::{read, read_reference, verdict};
use crate::voucher::known;

/// Checks, prints, and says whether everything holds.
///
/// # Errors
/// When a file cannot be read.
pub fn run(args: &LogArgs) -> anyhow::Result<bool> {
    let mut known = known(&args.voucher)?;
    let mut report = std::mem::take(&mut known.report);
    let mut signed: Vec<SignedHead> = Vec::new();
    let mut add = |who: String, records, hash| {
        signed.push(SignedHead {
            who,
            records,
            hash,
            found: None,
        })
    };
    if let Some((records, hash)) = known.claims().and_then(|claims| claims.audit_head) {
        add("the evidence".into(), records, hash);
    }
    for path in &args.receipt {
        let bytes = read(path, "receipt")?;
        if let Some(receipt) = known
            .key
            .as_ref()
            .and_then(|key| check_receipt(&mut report, &bytes, key))
        {
            add(path.display().to_string(), receipt.log_records, receipt.log_hash);
        }
    }
    let mut leaves = Leaves::default();
    let chain = verify_each(&args.file, u64::MAX, |head: &Head, line| {
        leaves.push(line);
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
    check_log(
        &mut report,
        chain.map_err(|error| error.to_string()),
        &signed,
        !args.checkpoint.is_empty(),
    );
    let signers = Signers::new(&args.signers, &known)?;
    let mut last = None;
    for path in &args.checkpoint {
        let note = read_checkpoint(&mut report, path)?;
        if let Some((note, checkpoint)) = &note {
            signers.check(&mut report, note, checkpoint);
            check_tree(&mut report, &leaves, checkpoint);
        }
        last = note;
    }
    if let (Some(path), Some((note, _)), Some(reference)) = (&args.anchor, last, &args.voucher.reference) {
        check_anchor(
            &mut report,
            &read(path, "anchor")?,
            &note.text,
            &read_reference(reference)?,
        );
    }
    if args.json {
        let value = serde_json::json!({ "holds": report.holds(), "findings": report.findings });
        println!("{value:#}");
    } else {
        println!("{report}{}: {}", args.file.display(), verdict(&report));
    }
    Ok(report.holds())
}
