//! No session stands still: every operation, with so little room for correlations and in the sockets that each party
//! waits for the other at every turn.

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use sirnn::plan::Plan;
use sirnn::plan::correlations::mode;
use sirnn::plan::operations::{OPERATIONS, Params, inputs};
use sirnn::program::{Goal, Profile};
use sirnn::run::Inputs;
use sirnn::run::session::{Kept, Report, Session};
use sirnn_backends::Party;
use sirnn_backends::ot::{self, BackendSpec, streams::Mode};
use sirnn_backends::transport::{Channel, Limits, TcpChannel};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Both ends of a connection that takes little at a time. (Less than a segment of the loopback interface, 64 KiB, would
/// make TCP itself wait for its timers.)
fn connection() -> [TcpChannel; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let b = listener.accept().unwrap().0;
    [a, b].map(|stream| {
        set_socket_send_buffer_size(&stream, 32 << 10).unwrap();
        set_socket_recv_buffer_size(&stream, 128 << 10).unwrap();
        let mut channel = TcpChannel::new(stream).unwrap();
        channel.set_limits(Limits::within(Duration::from_secs(60)));
        channel.record();
        channel
    })
}

/// Both parties' outputs and reports, with correlations made beside the online phase in the least room there can be.
fn run(plan: &Plan, backend: &'static dyn BackendSpec, inputs: &Inputs) -> Report {
    assert!(mode(plan, 1) == Mode::Live || plan.needs.is_empty());
    let [online, offline] = [connection(), connection()];
    let party = |party, mut online: TcpChannel, offline: TcpChannel| {
        let offline = Box::new(offline);
        let (id, nonce) = ([3; 16], [4; 16]);
        let kept = &mut Kept::default();
        let session = Session { plan, party, backend, id, nonce, online: &mut online, offline, kept, budget: 1 };
        let done = session.run(inputs, &mut |_| {});
        // The peer may still need what was sent last.
        let flushed = online.flush();
        done.and_then(|done| Ok(flushed.map(|()| done)?))
    };
    let ([a, b], [c, d]) = (online, offline);
    std::thread::scope(|s| {
        let server = s.spawn(move || party(Party::P0, a, c));
        let client = party(Party::P1, b, d);
        server.join().unwrap().unwrap();
        client.unwrap().1
    })
}

#[test]
fn every_operation_with_no_room() {
    let backend = ot::lookup("softspoken").unwrap();
    let profile = Profile::of(Goal::Bytes, backend);
    for op in OPERATIONS {
        // So many that a round draws several times what may be held.
        let n = if matches!(op.name, "matmul" | "conv" | "argmax" | "l2norm") { 64 } else { 1 << 16 };
        let plan = op.plan(&Params { n, ..Params::default() }, profile).unwrap();
        let report = run(&plan, backend, &inputs(&plan.program, 5));
        assert_eq!(report.rounds, plan.rounds(), "{}", op.name);
    }
}

/// The case that stood still: a round that draws more than the budget, at a party whose last frame is still queued.
#[test]
fn a_round_that_draws_more_than_may_be_held() {
    let op = OPERATIONS.iter().find(|op| op.name == "sigmoid").unwrap();
    for name in ["softspoken", "ferret"] {
        let backend = ot::lookup(name).unwrap();
        let profile = Profile::of(Goal::Bytes, backend);
        let plan = op.plan(&Params { n: 1 << 17, ..Params::default() }, profile).unwrap();
        run(&plan, backend, &inputs(&plan.program, 5));
    }
}
