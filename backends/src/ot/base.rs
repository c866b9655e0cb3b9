//! Base OT: random OTs from public-key operations, the seeds of everything else.
//!
//! Chou and Orlandi, "The simplest protocol for oblivious transfer" (LATINCRYPT 2015), over Ristretto: the sender sends
//! `A = aG` once; for OT `i` with choice `c` the receiver sends `B = bG + cA`; the keys are hashes of `aB` and
//! `a(B - A)`, of which the receiver knows the one that equals `bA`. Session, direction, index and both messages go
//! into the key derivation. Secure against semi-honest parties in the random-oracle model.
//! Two rounds (both directions share their messages); 32 bytes, and 32 per OT the other way.

use super::Session;
use crate::{Error, Party, random, transport::Channel};
use curve25519_dalek::{
    RistrettoPoint, Scalar,
    ristretto::{CompressedRistretto, RistrettoBasepointTable},
    traits::{Identity, IsIdentity},
};
use subtle::{Choice, ConditionallySelectable};
use zeroize::{Zeroize, Zeroizing};

/// What a party has afterwards.
pub(super) struct BaseOts {
    /// As sender: both seeds of every OT.
    pub(super) pairs: Zeroizing<Vec<[u128; 2]>>,
    /// As receiver: the seed of its choice.
    pub(super) chosen: Zeroizing<Vec<u128>>,
}

/// Bytes of a group element.
pub(super) const POINT: usize = 32;

/// Runs `send` OTs as sender and one for each of the bits of `choices` as receiver, all in the same messages.
pub(super) fn run(
    session: &Session,
    send: usize,
    choices: &[u128],
    channel: &mut dyn Channel,
) -> Result<BaseOts, Error> {
    let a = random_scalar()?;
    let point = RistrettoPoint::mul_base(&a);
    let sent = point.compress();
    if send > 0 {
        channel.send(sent.as_bytes())?;
    }

    let mut chosen = Zeroizing::new(Vec::new());
    if !choices.is_empty() {
        let theirs = receive_point(channel)?;
        let base = decompress(&theirs)?;
        if base.is_identity() {
            return Err(Error::Protocol("the base OT sender's point is the identity".into()));
        }
        let table = RistrettoBasepointTable::create(&base);
        let mut message = Vec::with_capacity(choices.len() * 128 * POINT);
        for (i, c) in choices.iter().flat_map(|w| (0..128).map(move |k| w >> k & 1)).enumerate() {
            let b = random_scalar()?;
            let select = RistrettoPoint::conditional_select(&RistrettoPoint::identity(), &base, Choice::from(c as u8));
            let reply = (RistrettoPoint::mul_base(&b) + select).compress();
            message.extend_from_slice(reply.as_bytes());
            chosen.push(derive(session, session.party.other(), i, &theirs, &reply, &table * &*b));
        }
        channel.send(&message)?;
    }

    let mut pairs = Zeroizing::new(Vec::with_capacity(send));
    let shift = point * *a;
    for i in 0..send {
        let reply = receive_point(channel)?;
        let key = decompress(&reply)? * *a;
        pairs.push([key, key - shift].map(|k| derive(session, session.party, i, &sent, &reply, k)));
    }
    Ok(BaseOts { pairs, chosen })
}

fn random_scalar() -> Result<Zeroizing<Scalar>, Error> {
    let bytes = Zeroizing::new(random::bytes::<64>()?);
    Ok(Zeroizing::new(Scalar::from_bytes_mod_order_wide(&bytes)))
}

fn receive_point(channel: &mut dyn Channel) -> Result<CompressedRistretto, Error> {
    let mut bytes = [0; POINT];
    channel.recv(&mut bytes)?;
    Ok(CompressedRistretto(bytes))
}

fn decompress(point: &CompressedRistretto) -> Result<RistrettoPoint, Error> {
    point.decompress().ok_or_else(|| Error::Protocol("a base OT message is not a group element".into()))
}

fn derive(
    session: &Session,
    sender: Party,
    index: usize,
    a: &CompressedRistretto,
    b: &CompressedRistretto,
    mut key: RistrettoPoint,
) -> u128 {
    let mut hash = blake3::Hasher::new_derive_key("sirnn base OT seed, version 1");
    let secret = Zeroizing::new(key.compress().to_bytes());
    key.zeroize();
    hash.update(&session.id).update(&[sender.index() as u8]).update(&(index as u64).to_le_bytes());
    hash.update(a.as_bytes()).update(b.as_bytes()).update(&*secret);
    let mut seed = Zeroizing::new([0; 16]);
    hash.finalize_xof().fill(&mut *seed);
    hash.zeroize();
    u128::from_le_bytes(*seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ot::test_session, transport::MemChannel};

    #[test]
    fn receivers_learn_the_chosen_seed_in_both_directions() {
        let (mut a, mut b) = MemChannel::pair();
        let choices = [[0x1234_5678_9abc_def0_0fed_cba9_8765_4321, u128::MAX], [0, 7]];
        let (x, y) = std::thread::scope(|s| {
            let x = s.spawn(|| run(&test_session(Party::P0), 128, &choices[0], &mut a).unwrap());
            let y = run(&test_session(Party::P1), 256, &choices[1][1..], &mut b).unwrap();
            (x.join().unwrap(), y)
        });
        let check = |pairs: &[[u128; 2]], chosen: &[u128], choices: &[u128]| {
            assert_eq!(pairs.len(), chosen.len());
            for (i, (p, c)) in pairs.iter().zip(chosen).enumerate() {
                let bit = (choices[i / 128] >> (i % 128) & 1) as usize;
                assert_eq!(p[bit], *c);
                assert_ne!(p[1 - bit], *c);
            }
        };
        check(&x.pairs, &y.chosen, &choices[1][1..]);
        check(&y.pairs, &x.chosen, &choices[0]);
        assert_eq!((a.depth(), b.depth()), (2, 2));
        assert_eq!(a.traffic().sent, 32 + 256 * 32);
        assert_eq!(b.traffic().sent, 32 + 128 * 32);
    }

    #[test]
    fn bad_points_are_errors() {
        for bad in [[0xff; 32], [0; 32]] {
            let (mut a, mut b) = MemChannel::pair();
            b.send(&bad).unwrap();
            assert!(matches!(run(&test_session(Party::P0), 0, &[0], &mut a), Err(Error::Protocol(_))));
        }
        let (mut a, mut b) = MemChannel::pair();
        b.send(&[0xff; 32]).unwrap();
        assert!(matches!(run(&test_session(Party::P0), 1, &[], &mut a), Err(Error::Protocol(_))));
        drop(b);
        assert!(matches!(run(&test_session(Party::P0), 1, &[], &mut a), Err(Error::Closed(_))));
    }
}
