//! Carrying messages: from the call that sends one to the deployments that receive on its channel.
//!
//! ```text
//!   worker ─ Sends ─► granted to its worker? ─┬─ send ────► room at every receiver? ─► mailboxes ─► calls, one after another
//!                     else it is ended        └─ request ─► the one receiver's call, while the sender has no slot ─► answer
//! ```
//! A receiver's call is a call like any other, of its own tenant. It is made only if the worker that would run it was granted the channel.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use referee_trace::Stage;
use tokio::time::Instant;

use crate::call::{Origin, Reply};
use crate::channel::{Answered, ChannelGrant, HOPS_MAX, Role, Sending, Why, fits};
use crate::deployment::{Deployment, add};
use crate::error::NodeError;
use crate::line::Failure;
use crate::mailbox::{Bounds, Delivery, Mailbox, Put, Room};
use crate::node::Node;
use crate::release::release;
use crate::report;

/// What a call has sent, by slot.
#[derive(Debug, Default)]
pub(crate) struct Sent(BTreeMap<String, u64>);

/// A message that its sender may send.
#[derive(Debug)]
pub(crate) struct Message {
    channel: String,
    bytes: Vec<u8>,
    /// Messages that led to it, itself among them.
    hops: u32,
}

/// Where a message goes.
struct Receiver {
    deployment: Arc<Deployment>,
    function: String,
    max_bytes: u64,
}

impl Sent {
    /// Holds a message against what the nursery granted to the worker. The worker did the same before it sent: one that sends anything
    /// else is not itself any more.
    ///
    /// # Errors
    /// What the worker did.
    pub(crate) fn check(
        &mut self,
        granted: &[ChannelGrant],
        sending: Sending,
        hops: u32,
    ) -> Result<Message, &'static str> {
        let grant = granted.iter().find(|grant| grant.slot == sending.slot);
        let Some((grant, most)) = grant.and_then(|grant| Some((grant, grant.sends(sending.asks)?))) else {
            return Err("sent on a channel that it was not granted");
        };
        let sent = self.0.entry(sending.slot).or_default();
        *sent = sent.saturating_add(1);
        let length = u64::try_from(sending.bytes.len()).unwrap_or(u64::MAX);
        if length > grant.max_bytes || *sent > most {
            return Err("sent more than it was granted");
        }
        Ok(Message {
            channel: grant.channel.clone(),
            bytes: sending.bytes,
            hops: hops.saturating_add(1),
        })
    }
}

impl Node {
    /// Puts a message into the mailbox of every receiver, or of none.
    pub(crate) fn publish(&self, sender: &Deployment, message: Message, stage: &Stage) -> Answered {
        let sent = self.put(sender, message, stage);
        count(sender, sent.is_ok());
        sent.map_or_else(Answered::Refused, Answered::Sent)
    }

    fn put(&self, sender: &Deployment, message: Message, stage: &Stage) -> Result<u32, Why> {
        if self.is_draining() {
            return Err(Why::Draining);
        }
        let receivers = self.reached(&message)?;
        let config = &self.config().channels;
        let bounds = Bounds {
            messages: config.queue,
            bytes: config.queue_bytes,
        };
        let length = message.bytes.len();
        let room = |receiver: &Receiver| receiver.deployment.mailbox.reserve(&sender.name, length, bounds);
        let rooms: Option<Vec<Room>> = receivers.iter().map(room).collect();
        let rooms = rooms.ok_or(Why::Busy)?;
        let mut taken = 0;
        for (receiver, room) in receivers.iter().zip(rooms) {
            let delivery = Delivery {
                channel: message.channel.clone(),
                bytes: message.bytes.clone(),
                hops: message.hops,
                trace: stage.call(),
            };
            match room.put(delivery) {
                Put::ToBeEmptied => self.empty(&receiver.deployment),
                Put::Waits => {}
                // It was removed this moment: then it does not receive.
                Put::Lost => continue,
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Has the one receiver answer a message.
    pub(crate) fn ask<'a>(
        &'a self,
        sender: &'a Deployment,
        message: Message,
        within: Duration,
        stage: &'a Stage,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send + 'a>> {
        // A call asks by a call: the type of one would hold itself.
        Box::pin(async move {
            let within = within.min(Duration::from_millis(self.config().channels.request_ms));
            let answer = match self.only(&message) {
                Err(why) => Err(why),
                Ok(receiver) => {
                    let origin = Origin::message(&message.channel, message.hops, false);
                    let payload = arguments(&message.bytes);
                    let (arrived, tick) = (Instant::now(), receiver.deployment.tick());
                    let call = self.call(
                        receiver.deployment,
                        receiver.function,
                        payload,
                        stage.call(),
                        origin,
                    );
                    match tokio::time::timeout(within, call).await {
                        Ok(result) => {
                            release(arrived, tick).await;
                            answer_of(result)
                        }
                        Err(_) => Err(Why::Timeout),
                    }
                }
            };
            count(sender, answer.is_ok());
            answer.unwrap_or_else(Answered::Refused)
        })
    }

    fn only(&self, message: &Message) -> Result<Receiver, Why> {
        let mut receivers = self.reached(message)?.into_iter();
        match (receivers.next(), receivers.next()) {
            (Some(receiver), None) => Ok(receiver),
            (None, _) => Err(Why::Nobody),
            (Some(_), Some(_)) => Err(Why::Several),
        }
    }

    /// Who receives on the message's channel.
    fn reached(&self, message: &Message) -> Result<Vec<Receiver>, Why> {
        if message.hops > HOPS_MAX {
            return Err(Why::TooFar);
        }
        let length = u64::try_from(message.bytes.len()).unwrap_or(u64::MAX);
        let receivers = self.receivers(&message.channel);
        match receivers.iter().any(|receiver| receiver.max_bytes < length) {
            true => Err(Why::TooLarge),
            false => Ok(receivers),
        }
    }

    fn receivers(&self, channel: &str) -> Vec<Receiver> {
        let mut found = Vec::new();
        self.each_deployment(|deployment| {
            for grant in &deployment.assessment().channels {
                if let Some(function) = grant.takes(channel)
                    && !deployment.is_revoked(&grant.slot)
                {
                    found.push(Receiver {
                        deployment: Arc::clone(deployment),
                        function: function.to_owned(),
                        max_bytes: grant.max_bytes,
                    });
                }
            }
        });
        found
    }

    /// Calls a receiver for one message after another until there are none.
    fn empty(&self, receiver: &Deployment) {
        let (node, name, mailbox) = (self.clone(), receiver.name.clone(), Arc::clone(&receiver.mailbox));
        tokio::spawn(async move {
            while let Some(deployment) = node.to_receive(&name, &mailbox).await {
                let Some(delivery) = mailbox.next() else {
                    return;
                };
                let counters = Arc::clone(&deployment.counters);
                match node.deliver(deployment, delivery).await {
                    true => add(&counters.messages_taken, 1),
                    false => add(&counters.messages_lost, 1),
                }
            }
        });
    }

    /// The deployment of this name once it is not paused; none when its mailbox is not this one any more, or the node ends.
    async fn to_receive(&self, name: &str, mailbox: &Arc<Mailbox>) -> Option<Arc<Deployment>> {
        loop {
            let resumed = self.resumed().notified();
            tokio::pin!(resumed);
            // From here on it hears of changes.
            resumed.as_mut().enable();
            let deployment = self.deployment(name).ok()?;
            if self.is_draining() || !Arc::ptr_eq(&deployment.mailbox, mailbox) {
                return None;
            }
            if !deployment.paused.load(Ordering::Acquire) {
                return Some(deployment);
            }
            resumed.await;
        }
    }

    /// Whether the receiver's call came to a good end.
    async fn deliver(&self, deployment: Arc<Deployment>, delivery: Delivery) -> bool {
        let mut grants = deployment.assessment().channels.iter();
        let function = grants.find_map(|grant| {
            let function = grant.takes(&delivery.channel)?;
            (!deployment.is_revoked(&grant.slot)).then(|| function.to_owned())
        });
        let Some(function) = function else {
            return false;
        };
        let origin = Origin::message(&delivery.channel, delivery.hops, true);
        let payload = arguments(&delivery.bytes);
        let result = self
            .call(deployment, function, payload, delivery.trace, origin)
            .await;
        result.is_ok_and(|reply| reply.result.is_ok())
    }

    /// Messages that nobody will take any more because the node ends.
    pub(crate) fn lose_messages(&self) {
        let mut lost = 0;
        self.each_deployment(|deployment| lost += deployment.mailbox.close());
        if lost > 0 {
            report::problem(&format!("{lost} messages were waiting and are lost"));
        }
    }

    /// Refuses a deployment with which requests would go in a circle: each call in it would wait for a cell that another holds.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with the circle.
    pub(crate) fn refuse_circle(&self, name: &str, channels: &[ChannelGrant]) -> Result<(), NodeError> {
        let mut asks: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut note = |deployment: &str, channels: &[ChannelGrant]| {
            for grant in channels {
                let (table, key, value) = match grant.role {
                    Role::Request { .. } => (&mut asks, deployment, &grant.channel),
                    Role::Receive { .. } => (&mut answers, grant.channel.as_str(), &deployment.to_owned()),
                    Role::Send { .. } => continue,
                };
                table.entry(key.to_owned()).or_default().push(value.clone());
            }
        };
        self.each_deployment(|deployment| {
            if deployment.name != name {
                note(&deployment.name, &deployment.assessment().channels);
            }
        });
        note(name, channels);
        match circle(name, &asks, &answers) {
            None => Ok(()),
            Some(path) => Err(NodeError::Rejected {
                name: "channel-circle".into(),
                message: format!(
                    "requests would go in a circle, in which each waits for another: {}; bind one of the channels otherwise, or send without waiting",
                    path.join(" → ")
                ),
            }),
        }
    }
}

/// A way from a deployment back to itself. Without this deployment there is none: each one was looked at when it came.
fn circle(
    name: &str,
    asks: &BTreeMap<String, Vec<String>>,
    answers: &BTreeMap<String, Vec<String>>,
) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![name.to_owned()]];
    while let Some(path) = paths.pop() {
        let here = path.last()?;
        let channels = asks.get(here).into_iter().flatten();
        for next in channels.filter_map(|channel| answers.get(channel)).flatten() {
            let longer = [path.as_slice(), std::slice::from_ref(next)].concat();
            if next == name {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                paths.push(longer);
            }
        }
    }
    None
}

/// The arguments of a function that takes a message: an array with it alone (RFC 8949, 3). What is in it is for the muscle to read.
pub(crate) fn arguments(message: &[u8]) -> Vec<u8> {
    [&[0x81], message].concat()
}

fn answer_of(result: Result<Reply, NodeError>) -> Result<Answered, Why> {
    match result {
        Ok(reply) => match reply.result {
            Ok(value) if fits(&value) => Ok(Answered::Replied(value)),
            Ok(_) => Err(Why::AnswerTooLarge),
            Err(Failure::Function { message, .. }) => Ok(Answered::Failed(shortened(message))),
            Err(Failure::Fault { .. } | Failure::Exited(_) | Failure::Cancelled) => Err(Why::ReceiverFailed),
            Err(Failure::TooLarge { .. }) => Err(Why::TooLarge),
            Err(Failure::Host(_)) => Err(Why::HostFailed),
        },
        Err(NodeError::Busy { .. } | NodeError::Memory { .. }) => Err(Why::Busy),
        Err(NodeError::Paused(_)) => Err(Why::Paused),
        Err(NodeError::Draining) => Err(Why::Draining),
        Err(NodeError::Rejected { .. } | NodeError::NotPermitted { .. }) => Err(Why::NotGranted),
        Err(
            NodeError::NoDeployment(_)
            | NodeError::NoPipeline(_)
            | NodeError::NoSnapshot(_)
            | NodeError::NoFunction(_)
            | NodeError::NoSlot(_),
        ) => Err(Why::Nobody),
        Err(NodeError::WorkerGone { .. }) => Err(Why::ReceiverFailed),
        Err(NodeError::Config(_) | NodeError::Host { .. }) => Err(Why::HostFailed),
    }
}

/// Most bytes of an error's words that go back to a sender.
const WORDS_MAX: usize = 4096;

fn shortened(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(WORDS_MAX));
    words
}

fn count(sender: &Deployment, went: bool) {
    let counters = &sender.counters;
    add(
        match went {
            true => &counters.messages_sent,
            false => &counters.messages_refused,
        },
        1,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            table
                .entry((*key).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        table
    }

    #[test]
    fn a_way_back_is_found_however_long_it_is() {
        let answers = table(&[("x", "b"), ("x", "d"), ("y", "c"), ("z", "a")]);
        let asks = table(&[("a", "x"), ("b", "y")]);
        assert_eq!(circle("a", &asks, &answers), None);
        let asks = table(&[("a", "x"), ("b", "y"), ("c", "z")]);
        let path = circle("a", &asks, &answers).expect("is one");
        assert_eq!(path, ["a", "b", "c", "a"]);
        let itself = circle("a", &table(&[("a", "z")]), &answers);
        assert_eq!(itself, Some(vec!["a".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn a_worker_that_sends_what_it_was_not_granted_is_not_itself() {
        let grant = |slot: &str, role| ChannelGrant {
            slot: slot.to_owned(),
            channel: "news".to_owned(),
            role,
            max_bytes: 3,
        };
        let granted = [
            grant("to", Role::Send { max_messages: 2 }),
            grant("ask", Role::Request { max_messages: 1 }),
            grant(
                "from",
                Role::Receive {
                    function: "f".to_owned(),
                },
            ),
        ];
        let mut sent = Sent::default();
        let mut check = |slot: &str, asks, length| {
            let sending = Sending {
                slot: slot.to_owned(),
                asks,
                bytes: vec![0; length],
            };
            let checked = sent.check(&granted, sending, 4);
            checked.map(|message| (message.channel, message.hops))
        };
        let not_granted = Err("sent on a channel that it was not granted");
        for (slot, asks) in [
            ("to", true),
            ("ask", false),
            ("from", false),
            ("from", true),
            ("other", false),
        ] {
            assert_eq!(check(slot, asks, 0), not_granted, "{slot} {asks}");
        }
        let too_much = Err("sent more than it was granted");
        assert_eq!(check("to", false, 3), Ok(("news".to_owned(), 5)));
        assert_eq!(check("to", false, 4), too_much);
        assert_eq!(check("ask", true, 3), Ok(("news".to_owned(), 5)));
        assert_eq!(check("ask", true, 3), too_much);
        assert_eq!(check("to", false, 3), too_much, "each of them counted");
    }

    #[test]
    fn a_message_is_the_only_argument() {
        assert_eq!(arguments(&[0x18, 42]), [0x81, 0x18, 42]);
    }
}
