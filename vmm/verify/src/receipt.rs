//! `referee-verify receipt`.

use anyhow::bail;
use referee_evidence::{
    Evidence, Receipt, Report, Token, check, check_receipt, check_receipt_fits, check_replay,
};

use crate::cli::ReceiptArgs;
use crate::evidence::{read, read_reference, verdict};

/// Checks, prints, and says whether everything holds.
///
/// # Errors
/// When a file cannot be read.
pub fn run(args: &ReceiptArgs) -> anyhow::Result<bool> {
    let bytes = read(&args.file, "receipt")?;
    let (mut report, evidence, key) = match (&args.evidence, &args.nonce, &args.reference, &args.instance_key)
    {
        (Some(path), Some(nonce), Some(reference), _) => {
            let bytes = read(path, "evidence")?;
            let report = check(&bytes, &nonce.0, &read_reference(reference)?);
            let evidence = Evidence::parse(&bytes).ok();
            let claims = evidence
                .as_ref()
                .and_then(|evidence| Token::parse(&evidence.token).ok()?.claims().ok());
            (report, evidence, claims.map(|claims| claims.instance_key))
        }
        (None, _, _, Some(key)) => (Report::default(), None, Some(key.0)),
        _ => bail!("--evidence with --nonce and --reference, or --instance-key"),
    };
    let receipt = key.and_then(|key| check_receipt(&mut report, &bytes, &key));
    if let (Some(receipt), Some(evidence)) = (&receipt, &evidence) {
        check_receipt_fits(&mut report, receipt, evidence);
    }
    if let (Some(receipt), Some(path)) = (&receipt, &args.replay) {
        let other = Token::parse(&read(path, "receipt")?).and_then(|token| Receipt::of(&token))?;
        check_replay(&mut report, receipt, &other);
    }
    let holds = report.holds() && receipt.is_some();
    if args.json {
        let receipt = receipt.as_ref().map(Receipt::to_json);
        let value = serde_json::json!({ "holds": holds, "findings": report.findings, "receipt": receipt });
        println!("{value:#}");
    } else {
        if let Some(receipt) = &receipt {
            println!("{:#}", receipt.to_json());
        }
        println!("{report}{}: {}", args.file.display(), verdict(&report));
    }
    Ok(holds)
}
