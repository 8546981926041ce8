//! `grants`: what the slots of a deployment have, and less of it.

use hyper::Method;
use referee_node::client::{self, JSON, segment};
use referee_node::{EndShown, Narrow, PowerShown, SlotShown, SlotState};

use crate::cli::GrantsArgs;
use crate::node::{one_line, reach, show, talk};

/// Shows grants, revokes one, or narrows one.
///
/// # Errors
/// When the answer is none of the API.
pub fn grants(args: &GrantsArgs) -> anyhow::Result<u8> {
    let host = &reach(&args.host)?;
    let all = format!("/v1/deployments/{}/grants", segment(&args.name));
    if let Some(slot) = &args.revoke {
        let path = format!("{all}/{}", segment(slot));
        return talk(async {
            client::ask(host, Method::DELETE, &path, JSON, Vec::new()).await?;
            Ok(Ok(0))
        });
    }
    let Some(slot) = &args.narrow else {
        return talk(async {
            let answer = client::ask(host, Method::GET, &all, JSON, Vec::new()).await?;
            Ok(show(&answer, |slots: Vec<SlotShown>| match args.json {
                true => one_line(&answer),
                false => table(&slots),
            }))
        });
    };
    let path = format!("{all}/{}", segment(slot));
    let body = serde_json::to_vec(&wanted(args))?;
    talk(async {
        let answer = client::ask(host, Method::PATCH, &path, JSON, body).await?;
        Ok(show(&answer, |slot: SlotShown| match args.json {
            true => one_line(&answer),
            false => table(std::slice::from_ref(&slot)),
        }))
    })
}

fn wanted(args: &GrantsArgs) -> Narrow {
    Narrow {
        read_only: args.read_only,
        within: args.within.clone(),
        max_bytes: args.max_bytes,
        max_files: args.max_files.map(u64::from),
        names: args.names.clone(),
        no_input: args.no_input,
        coarse: args.coarse,
    }
}

fn table(slots: &[SlotShown]) -> String {
    let head = ["SLOT", "CAPABILITY", "STATE", "HAS"].map(str::to_owned);
    let rows = slots.iter().map(|slot| {
        [
            slot.slot.clone(),
            slot.capability.clone(),
            state(slot.state).to_owned(),
            match &slot.left {
                None => "nothing".to_owned(),
                Some(power) => words(power),
            } + &others(slot),
        ]
    });
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (slot, capability, stands) = (width(0), width(1), width(2));
    let line = |[one, two, three, four]: &[String; 4]| {
        let line = format!("{one:slot$}  {two:capability$}  {three:stands$}  {four}");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Whole => "whole",
        SlotState::Narrowed => "narrowed",
        SlotState::Revoked => "revoked",
        SlotState::Dormant => "dormant",
    }
}

/// From whom it is, and who has something of it.
fn others(slot: &SlotShown) -> String {
    let end = |end: &EndShown| format!("{}/{}", end.deployment, end.slot);
    let from = slot.from.iter().map(|from| format!("; from {}", end(from)));
    let to = slot.to.iter().map(|to| format!("; to {}", end(to)));
    from.chain(to).collect()
}

fn words(power: &PowerShown) -> String {
    let flag =
        |said: Option<bool>, yes: &str, no: &str| said.map(|said| if said { yes } else { no }.to_owned());
    let parts = [
        power.path.clone(),
        power.ring.as_ref().map(|ring| format!("ring {ring}")),
        power.within.as_ref().map(|path| format!("within {path}")),
        flag(power.read_only, "read-only", "read and write"),
        power.max_bytes.map(|bytes| format!("{bytes} bytes")),
        power.max_files.map(|files| format!("{files} files")),
        power.names.as_ref().map(|names| names.join(" ")),
        flag(power.input, "input", "no input"),
        flag(power.coarse, "coarse", "fine"),
        power.port.map(|port| format!("port {port}")),
    ];
    let said: Vec<String> = parts.into_iter().flatten().collect();
    let shown = said.join(", ");
    // Names come from a manifest.
    shown
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
