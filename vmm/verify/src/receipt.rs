//! `referee-verify receipt`.

use referee_evidence::{Receipt, Token, check_receipt, check_receipt_fits, check_replay};

use crate::replay::run_again;

use crate::cli::ReceiptArgs;
use crate::evidence::{read, verdict};
use crate::voucher::{Known, known};

/// Checks, prints, and says whether everything holds.
///
/// # Errors
/// When a file cannot be read.
pub fn run(args: &ReceiptArgs) -> anyhow::Result<bool> {
    let bytes = read(&args.file, "receipt")?;
    let Known {
        mut report,
        evidence,
        key,
    } = known(&args.voucher)?;
    let receipt = key.and_then(|key| check_receipt(&mut report, &bytes, &key));
    if let (Some(receipt), Some((evidence, _))) = (&receipt, &evidence) {
        check_receipt_fits(&mut report, receipt, evidence);
    }
    if let (Some(receipt), true) = (&receipt, args.replay) {
        check_replay(&mut report, receipt, &run_again(&args.command)?);
    }
    if let (Some(receipt), Some(path)) = (&receipt, &args.compare) {
        let other = Token::parse(&read(path, "receipt")?).and_then(|token| Receipt::of(&token))?;
        check_replay(&mut report, receipt, &other.into());
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
