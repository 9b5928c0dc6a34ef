use super::*;

fn members(lead: &Arc<Lead>) -> (Member, Member) {
    (Member::new(Arc::clone(lead), 0), Member::new(Arc::clone(lead), 1))
}

fn device() -> (Arc<Lead>, Arc<[Arc<Mailbox>]>) {
    let mailboxes: Arc<[_]> = [Mailbox::new(1).unwrap(), Mailbox::new(1).unwrap()].into();
    (Lead::new(2, Some(Arc::clone(&mailboxes))), mailboxes)
}

/// Whether the bell has been rung; not any more then.
fn rung(mailbox: &Mailbox) -> bool {
    let mut fds = [nix::poll::PollFd::new(mailbox.bell(), nix::poll::PollFlags::POLLIN)];
    let rung = nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO) == Ok(1);
    mailbox.fetch(&mut Vec::new(), &mut Vec::new());
    rung
}

#[test]
fn one_leads_and_who_leads_no_more_rings_for_the_others() {
    let (lead, mailboxes) = device();
    let (first, second) = members(&lead);
    assert!(first.join(Cpus::default()) && first.has_joined());
    assert!(!second.join(Cpus::default()) && !second.has_joined());
    second.leave();
    assert!(!rung(&mailboxes[0]) && !rung(&mailboxes[1]));
    first.leave();
    assert!(!rung(&mailboxes[0]) && rung(&mailboxes[1]));
    assert!(second.join(Cpus::default()) && !first.join(Cpus::default()));
    lead.release(1, true);
    assert!(!second.has_joined() && rung(&mailboxes[0]));
    assert!(!first.has_hung() && second.has_hung() && !second.has_hung());
    assert!(first.join(Cpus::default()));
    drop(first);
    assert!(rung(&mailboxes[1]));
    assert_eq!(lead.state(0).0, State::Free, "nobody touches a thread that ends");
    assert!(second.join(Cpus::default()));
    // Where each shard has callers of its own, all may.
    let lead = Lead::new(2, None);
    let (first, second) = members(&lead);
    assert!(first.join(Cpus::default()) && second.join(Cpus::default()));
}

#[test]
fn nobody_leads_whom_another_has_reserved_it() {
    let (lead, _) = device();
    let (first, second) = members(&lead);
    first.reserves(true);
    second.reserves(true);
    assert!(first.may_join() && !second.may_join());
    second.reserves(false);
    assert!(!second.may_join(), "it is not his");
    first.reserves(false);
    assert!(first.may_join() && second.may_join());
    assert!(second.join(Cpus::default()));
    assert!(first.others_lead() && !second.others_lead());
    // Where each has callers of its own nobody disturbs anybody.
    let (first, second) = members(&Lead::new(2, None));
    first.reserves(true);
    assert!(second.may_join() && second.join(Cpus::default()) && !first.others_lead());
}

#[test]
fn to_move_much_is_much_work_and_where_all_hear_all_work_together() {
    let (lead, _) = device();
    let (first, second) = members(&lead);
    first.worked(4096);
    second.worked(1 << 20);
    assert_eq!((first.work(), second.work()), (34, 34));
    assert_eq!((first.others_work(), second.others_work()), (0, 0));
    let (first, second) = members(&Lead::new(2, None));
    first.worked(4096);
    second.worked(1 << 20);
    assert_eq!((first.work(), second.work()), (1, 33));
    assert_eq!((first.others_work(), second.others_work()), (33, 1));
}

#[test]
fn a_count_tells_of_each_step_and_whether_it_is_in_a_handler() {
    let lead = Lead::new(1, None);
    let member = Member::new(Arc::clone(&lead), 0);
    member.runs();
    assert_eq!(lead.state(0).2, 0, "nobody looks");
    member.join(Cpus::default());
    let mut last = lead.state(0).2;
    for (step, parity) in [
        (Member::runs as fn(&_), 1),
        (Member::runs, 1),
        (Member::rests, 0),
        (Member::rests, 0),
        (Member::runs, 1),
    ] {
        step(&member);
        let now = lead.state(0).2;
        assert!(now > last && now % 2 == parity, "{last} {now}");
        last = now;
    }
}
