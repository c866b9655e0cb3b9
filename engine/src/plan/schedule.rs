//! When every message is sent: levelling, and modulo scheduling of loops.
//!
//! The unit is the message. Availability is kept per register *and party*: a message leaves in the first round in which its
//! sender has its operands and has read the message before it; a share is there one round after the last message
//! it is made from. So a client that knows its share of a product since the offline phase sends the choices of the comparison behind it
//! together with the product's own message, and no rule says so.
//!
//! A loop's body is planned once. Trip `t` starts `t * interval` rounds after trip 0, where the interval is the smallest for which the
//! carried state of a trip arrives in time for the next: no cycle of latencies minus intervals is positive (Bellman-Ford). There
//! are no resource limits, since a frame carries any number of messages, so this is exact, and work off the cycle
//! overlaps with other trips by itself.

use crate::program::{Block, Holder, Op, Program, Reg, Ty};
use sirnn_backends::Party;

/// Rounds, counted from the start of a trip.
pub type Time = usize;

/// When the parts of a node happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Times {
    /// A local node, at each party that executes it.
    Local([Option<Time>; 2]),
    /// An interactive node.
    Inter {
        /// Both parties draw the node's correlations in this round.
        draw: Time,
        /// Round of each message.
        messages: Vec<Time>,
        /// When each party has its results.
        ready: [Option<Time>; 2],
    },
}

/// A block's schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSchedule {
    /// Rounds from the start of one trip to the start of the next.
    pub interval: Time,
    /// Rounds of one trip.
    pub length: Time,
    /// For each node.
    pub nodes: Vec<Times>,
    /// When each register of the block is there, by party; registers of earlier blocks are there at 0.
    pub available: Vec<[Time; 2]>,
    /// The block's first register.
    pub first: u32,
}

impl BlockSchedule {
    /// Rounds of all trips.
    pub fn rounds(&self, trips: usize) -> Time {
        (trips - 1) * self.interval + self.length
    }

    /// When a register is there.
    pub fn at(&self, reg: Reg) -> [Time; 2] {
        reg.0.checked_sub(self.first).map_or([0; 2], |i| self.available.get(i as usize).copied().unwrap_or([0; 2]))
    }
}

/// Schedules a block.
pub fn block(program: &Program, index: usize) -> BlockSchedule {
    let b = &program.blocks[index];
    let first = program.home.iter().position(|&h| h == index).unwrap_or(program.home.len());
    let count = program.home[first..].iter().take_while(|&&h| h == index).count();
    let pass = |interval: Option<Time>| place(program, b, first as u32, count, interval);
    // Without overlap every trip waits for the state of the one before.
    let serial = pass(None).expect("a single trip can always be placed");
    if b.trips == 1 || b.carries.is_empty() {
        let interval = if b.trips == 1 { serial.length } else { 1 };
        return BlockSchedule { interval, ..serial };
    }
    let (mut low, mut high) = (1, serial.length.max(1));
    while low < high {
        let middle = (low + high) / 2;
        if pass(Some(middle)).is_some() {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    pass(Some(low)).expect("the serial interval is feasible")
}

/// Longest paths for a given interval; `None` if the state of a trip comes too late for ever.
fn place(program: &Program, b: &Block, first: u32, count: usize, interval: Option<Time>) -> Option<BlockSchedule> {
    let mut s = BlockSchedule {
        interval: interval.unwrap_or(0),
        length: 0,
        nodes: Vec::new(),
        available: vec![[0; 2]; count],
        first,
    };
    for _ in 0..2 * b.carries.len() + 2 {
        forward(program, b, &mut s);
        let Some(interval) = interval else { return Some(s) };
        let mut settled = true;
        for carry in &b.carries {
            let next = s.at(carry.next);
            let param = &mut s.available[(carry.param.0 - first) as usize];
            for p in 0..2 {
                let needed = next[p].saturating_sub(interval);
                if needed > param[p] {
                    param[p] = needed;
                    settled = false;
                }
            }
        }
        if settled {
            return Some(s);
        }
    }
    None
}

fn forward(program: &Program, b: &Block, s: &mut BlockSchedule) {
    s.nodes.clear();
    s.length = 0;
    for node in &b.nodes {
        let have = |p: Party, ins: &mut dyn Iterator<Item = Reg>| ins.map(|r| s.at(r)[p.index()]).max().unwrap_or(0);
        match &node.op {
            Op::Local(_) => {
                let ty = program.ty(node.outs[0]);
                let times = Party::BOTH.map(|p| executes(ty, p).then(|| have(p, &mut node.ins.iter().copied())));
                for (slot, time) in s.available[(node.outs[0].0 - s.first) as usize].iter_mut().zip(times) {
                    *slot = time.unwrap_or(0);
                    s.length = s.length.max(*slot);
                }
                s.nodes.push(Times::Local(times));
            }
            Op::Inter(inst) => {
                let mut messages: Vec<Time> = Vec::new();
                for m in inst.messages(node.instances(&program.regs)) {
                    let operands = have(m.from, &mut m.needs.iter().map(|&i| node.ins[i]));
                    let before = m.after.map_or(0, |a| messages[a] + 1);
                    // Not before its reader can use it: it would only wait there.
                    let reader = m.from.other();
                    let used = inst.ready(reader).map_or(0, |r| {
                        let own = have(reader, &mut r.needs.iter().map(|&i| node.ins[i]));
                        if r.messages.contains(&messages.len()) { own.saturating_sub(1) } else { 0 }
                    });
                    messages.push(operands.max(before).max(used));
                }
                let ready = Party::BOTH.map(|p| {
                    inst.ready(p).map(|r| {
                        let arrived = r.messages.iter().map(|&m| messages[m] + 1).max().unwrap_or(0);
                        arrived.max(have(p, &mut r.needs.iter().map(|&i| node.ins[i])))
                    })
                });
                // Both parties must draw at the same time: before either uses the ticket.
                let draw = messages.iter().copied().chain(ready.into_iter().flatten()).min().unwrap_or(0);
                for &out in &node.outs {
                    let slot = &mut s.available[(out.0 - s.first) as usize];
                    for p in 0..2 {
                        slot[p] = ready[p].unwrap_or(0);
                        s.length = s.length.max(slot[p]);
                    }
                }
                s.length = messages.iter().fold(s.length, |l, m| l.max(m + 1));
                s.nodes.push(Times::Inter { draw, messages, ready });
            }
        }
    }
}

/// Whether a party executes a local node with this result.
pub fn executes(ty: &Ty, party: Party) -> bool {
    match ty.holder {
        Holder::Both => true,
        Holder::Only(p) => p == party,
    }
}
