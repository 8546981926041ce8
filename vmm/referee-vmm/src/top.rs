//! `top`: a node's deployments as they are now, again and again.
//!
//! ```text
//!   the API ─► Sample ─┐
//!   the API ─► Sample ─┴─► rows ─► View ─► a terminal, or text
//!                                   ▲
//!                          keys ────┘
//! ```

mod rows;
mod view;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::Method;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use referee_node::client::{self, ClientError, Host, JSON};

use crate::cli::TopArgs;
use crate::ending::rejected;
use crate::inspect::write_out;
use crate::node::{reach, refused, runtime};
use crate::top::rows::Sample;
use crate::top::view::{Next, View};

/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// Shows deployments until somebody quits, or once.
///
/// # Errors
/// When the node cannot be asked, or the terminal not be used.
pub fn top(args: &TopArgs) -> anyhow::Result<u8> {
    let runtime = runtime()?;
    let host = &reach(&args.host)?;
    let each = Duration::from_millis(args.interval_ms.max(100));
    let first = match runtime.block_on(ask(host)) {
        Ok(first) => first,
        Err(ClientError::Refused { body, .. }) => return Ok(refused(&body.error)),
        Err(error) => return Err(error.into()),
    };
    let mut view = View::new(args.host.host.to_string_lossy().into_owned(), first);
    if args.once {
        std::thread::sleep(each);
        view.take(runtime.block_on(ask(host)));
        return write_out(view.text().as_bytes());
    }
    if !std::io::stdout().is_terminal() {
        return Err(rejected("no-terminal", "standard output is no terminal: use `top --once`").into());
    }
    let mut terminal = ratatui::try_init().context("taking the terminal")?;
    let watched = watch(&mut terminal, &mut view, each, || runtime.block_on(ask(host)));
    // Whatever happened, the terminal is somebody's.
    ratatui::try_restore().context("giving the terminal back")?;
    watched.map(|()| 0)
}

/// Draws, and asks again and again, until somebody quits.
fn watch(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    each: Duration,
    ask: impl Fn() -> Result<Sample, ClientError>,
) -> anyhow::Result<()> {
    let mut at = Instant::now() + each;
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        match until(view, at)? {
            Next::Quit => return Ok(()),
            Next::Draw => {}
            Next::Ask => {
                view.take(ask());
                at = Instant::now() + each;
            }
        }
    }
}

/// Waits for a key, or until it is time to ask again.
fn until(view: &mut View, at: Instant) -> anyhow::Result<Next> {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if !event::poll(left)? {
            return Ok(Next::Ask);
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => match view.key(key) {
                Next::Ask => {}
                other => return Ok(other),
            },
            Event::Resize(..) => return Ok(Next::Draw),
            _ => {}
        }
    }
}

/// Asks for everything that is shown. Figures of the node are left out where policy keeps them from the caller.
async fn ask(host: &Host) -> Result<Sample, ClientError> {
    let get = async |path: &str| {
        let answer = client::ask(host, Method::GET, path, JSON, Vec::new());
        match tokio::time::timeout(WITHIN, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Unexplained { status: 504 }),
        }
    };
    let shown = get("/v1/deployments").await?;
    let stats = get("/v1/stats").await.ok();
    Ok(Sample {
        at: Instant::now(),
        shown: serde_json::from_slice(&shown).map_err(|_| ClientError::Unexplained { status: 200 })?,
        stats: stats.and_then(|stats| serde_json::from_slice(&stats).ok()),
    })
}
