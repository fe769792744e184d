//! Who is let into a classic group, and whether a new generation is made for that.

use super::{
    asked::{Join, Joined, Refused},
    group::{FIRST_WAIT_MS, First, Group, Phase, unknown},
    member::Member,
};

/// How somebody was let in.
pub(super) enum Admitted {
    /// It waits for the next generation.
    Waits(String),
    /// It is in the one that lasts.
    Now(Joined),
    /// The same, once it is written that it goes by another id.
    OnceWritten(Joined),
}

impl Group {
    pub(super) fn admit(&mut self, now_ms: u64, join: &Join, new_id: String) -> Result<Admitted, Refused> {
        if !self.suits(join) {
            return Err(Refused::Inconsistent { is: self.protocol_type.clone() });
        }
        if join.member.is_empty() {
            if let Some(old) = join.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned() {
                return Ok(self.come_back(now_ms, &old, new_id, join));
            }
            if join.named_first && join.instance.is_none() {
                let until_ms = now_ms.saturating_add(u64::from(join.session_timeout_ms));
                self.given.insert(new_id.clone(), until_ms);
                return Err(Refused::NameGiven { member: new_id });
            }
            return Ok(self.add(now_ms, new_id, join));
        }
        if self.given.remove(&join.member).is_some() {
            return Ok(self.add(now_ms, join.member.clone(), join));
        }
        let id = self.named(&join.member, join.instance.as_deref())?;
        let member = self.members.get_mut(&id).ok_or_else(|| unknown(&join.member))?;
        member.alive(now_ms);
        let same = member.protocols == join.protocols;
        match self.phase {
            Phase::Empty => return Err(unknown(&join.member)),
            Phase::Preparing { .. } => {}
            // The answer was lost on its way.
            Phase::Completing { .. } if same => return Ok(Admitted::Now(self.joined(&id))),
            // A leader joins anew when it sees that topics have changed.
            Phase::Stable if same && id != self.leader => return Ok(Admitted::Now(self.joined(&id))),
            Phase::Completing { .. } | Phase::Stable => self.prepare(now_ms),
        }
        self.members.get_mut(&id).expect("it was found above").update(join);
        Ok(Admitted::Waits(id))
    }

    /// Whether all others can share out in a way that this one can, too.
    fn suits(&self, join: &Join) -> bool {
        let itself = join.instance.as_ref().and_then(|instance| self.instances.get(instance)).unwrap_or(&join.member);
        let mut others = self.members.iter().filter(|(id, _)| *id != itself).map(|(_, member)| member).peekable();
        let kind = others.peek().is_none() || self.protocol_type == join.protocol_type;
        let others: Vec<&Member> = others.collect();
        let common = join.protocols.iter().any(|p| others.iter().all(|member| member.can(&p.name)));
        kind && common && !join.protocol_type.is_empty()
    }

    fn add(&mut self, now_ms: u64, id: String, join: &Join) -> Admitted {
        let mut member = Member::new(join);
        member.alive(now_ms);
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
            self.leader.clone_from(&id);
        }
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        match &mut self.phase {
            Phase::Empty => {
                let left_ms = u64::from(join.rebalance_timeout_ms).saturating_sub(FIRST_WAIT_MS);
                let first = Some(First { left_ms, grown: false });
                self.phase = Phase::Preparing { until_ms: now_ms.saturating_add(FIRST_WAIT_MS), first };
            }
            Phase::Preparing { first, .. } => first.iter_mut().for_each(|first| first.grown = true),
            Phase::Completing { .. } | Phase::Stable => self.prepare(now_ms),
        }
        Admitted::Waits(id)
    }

    /// A member is there again under its name, as another process: it takes the place of the one before (KIP-345).
    fn come_back(&mut self, now_ms: u64, old: &str, id: String, join: &Join) -> Admitted {
        let mut member = self.members.remove(old).expect("names are those of members");
        let instance = join.instance.clone().unwrap_or_default();
        member.refuse(&Refused::Fenced { instance: instance.clone() });
        member.update(join);
        member.alive(now_ms);
        self.instances.insert(instance, id.clone());
        self.members.insert(id.clone(), member);
        let led = self.leader == old;
        if led {
            self.leader.clone_from(&id);
        }
        if self.members.len() == 1 {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        match self.phase {
            Phase::Stable if self.choose() == self.protocol => {
                let mut joined = self.joined(&id);
                joined.skip_assignment = led && join.may_skip;
                if led && !join.may_skip {
                    // It would share out, and nobody would listen: somebody else leads, as far as it knows.
                    old.clone_into(&mut joined.leader);
                    joined.members.clear();
                }
                return Admitted::OnceWritten(joined);
            }
            Phase::Stable | Phase::Completing { .. } => self.prepare(now_ms),
            Phase::Empty | Phase::Preparing { .. } => {}
        }
        Admitted::Waits(id)
    }
}
