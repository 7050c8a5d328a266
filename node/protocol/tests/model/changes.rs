//! The steps of a change of generation, and of two rival transactions around it. State and
//! conclusions are in `generations.rs`.

use quorate_protocol::message::{Decided, Value};
use stateright::{Model, Property};

use super::generations::{Action, Changes, Held, Moved, Promise, Rule, Server, State, TXS};

impl Changes {
    pub(crate) fn vote(&self, state: &State, server: usize, tx: usize) -> Option<Server> {
        let mut after = state.servers[server];
        let generation = state.prepared_in[tx];
        let held = after.txs[tx];
        if held.vote.is_some() || held.promised > 0 || held.outcome.is_some() || held.carried {
            return None;
        }
        let gone = usize::from(after.view) > generation || after.sealed & (1 << generation) != 0;
        let yes = if gone {
            false
        } else if self.is_active(server, &after, generation) {
            let mut others = (0..TXS).filter(|other| *other != tx).map(|o| &after.txs[o]);
            !others.any(|other| {
                let unlocked = self.rule == Rule::CarriedUnlocked && other.carried;
                (other.blocks() && !unlocked) || other.outcome == Some(Decided::Commit)
            })
        } else {
            return None;
        };
        // Only a member of its generation is asked.
        if !self.is_member(server, generation) {
            return None;
        }
        after.txs[tx].vote = Some(yes);
        after.txs[tx].voted.get_or_insert(yes);
        Some(after)
    }

    /// Acceptor state of an old transaction is still here: its generation has not been left.
    fn still_answers(&self, state: &State, server: usize, tx: usize) -> bool {
        let at = &state.servers[server];
        let generation = state.prepared_in[tx];
        self.is_member(server, generation)
            && usize::from(at.entered) == generation + 1
            && at.txs[tx].outcome.is_none()
    }

    pub(crate) fn accept(
        &self,
        state: &State,
        server: usize,
        tx: usize,
        round: usize,
    ) -> Option<Server> {
        let value = state.proposed[tx][round - 1]?;
        let mut after = state.servers[server];
        let held = &mut after.txs[tx];
        if !self.still_answers(state, server, tx) || round < usize::from(held.promised) {
            return None;
        }
        held.promised = round as u8;
        held.accepted = Some((round as u8, value));
        held.has_accepted |= 1 << (round - 1);
        (after != state.servers[server]).then_some(after)
    }

    pub(crate) fn promise(
        &self,
        state: &State,
        server: usize,
        tx: usize,
        round: usize,
    ) -> Option<Server> {
        let mut after = state.servers[server];
        let held = &mut after.txs[tx];
        if !self.still_answers(state, server, tx) || round < usize::from(held.promised) {
            return None;
        }
        held.promised = round as u8;
        let promise = Promise { vote: held.vote, accepted: held.accepted };
        held.promises[round - 2].get_or_insert(promise);
        (after != state.servers[server]).then_some(after)
    }

    /// 3.7.1: what a member of a later generation says of a transaction whose generation is
    /// closed.
    fn authority(&self, state: &State, server: usize, tx: usize) -> Option<u8> {
        let at = &state.servers[server];
        let (generation, view) = (state.prepared_in[tx], usize::from(at.view));
        let synced = usize::from(at.entered) == view + 1 || self.rule == Rule::UnsyncedAnswers;
        let closed = view > generation && self.is_member(server, view) && synced;
        if !closed || at.txs[tx].outcome.is_some() {
            return None;
        }
        Some(if at.txs[tx].carried { 1 } else { 2 })
    }

    fn proposals(&self, state: &State, tx: usize, round: usize) -> [bool; 2] {
        let generation = state.prepared_in[tx];
        let (n, w) = (self.n(generation), self.generations[generation].1);
        if round == 1 {
            let yes = self.votes(state, tx, true);
            let no = self.votes(state, tx, false);
            return [yes >= w, no > n - w];
        }
        let promises: Vec<Promise> = self
            .members(generation)
            .filter_map(|server| state.servers[server].txs[tx].promises[round - 2])
            .collect();
        let mut values = [false; 2];
        for chosen in 0..1_usize << promises.len() {
            if (chosen.count_ones() as usize) < self.majority(generation) {
                continue;
            }
            let some = promises.iter().enumerate().filter(|(i, _)| chosen & (1 << i) != 0);
            let accepted = some.clone().filter_map(|(_, p)| p.accepted).max_by_key(|(r, _)| *r);
            let answers = some.clone().count();
            let yes = some.filter(|(_, p)| p.vote == Some(true)).count();
            match accepted {
                Some((_, Value::Prepared)) => values[0] = true,
                Some((_, Value::Aborted)) => values[1] = true,
                None if yes == answers || yes >= w => values[0] = true,
                None => values[1] = true,
            }
        }
        values
    }

    /// The generation that a change under way leaves.
    fn leaving(state: &State) -> Option<usize> {
        (state.entries % 2 == 1).then_some(usize::from(state.entries / 2))
    }

    fn seal(&self, state: &State, server: usize) -> Option<Server> {
        let generation = Self::leaving(state)?;
        let mut after = state.servers[server];
        let asked = self.rule != Rule::NoSeal
            && self.is_member(server, generation)
            && usize::from(after.entered) == generation + 1
            && after.listed[generation] == 0;
        if !asked {
            return None;
        }
        let open = (0..TXS).filter(|tx| {
            let held = &after.txs[*tx];
            (held.is_open() || held.carried) && held.outcome.is_none()
        });
        after.listed[generation] = open.fold(1, |listed, tx| listed | (2 << tx));
        if self.rule != Rule::DrainUnsealed {
            after.sealed |= 1 << generation;
        }
        Some(after)
    }

    /// What the leader moves once everything that `sealed` listed is drained (3.9.3, 3.9.4).
    fn transfer(&self, state: &State, sealed: u8, asks: bool) -> Option<[Moved; TXS]> {
        let generation = Self::leaving(state)?;
        let members = || self.members(generation).filter(|s| sealed & (1 << s) != 0);
        let needed = match self.rule {
            Rule::SealMinority => 1,
            _ => self.majority(generation),
        };
        let answered = |s: &usize| state.servers[*s].listed[generation] != 0;
        if members().count() != sealed.count_ones() as usize
            || members().count() < needed
            || !members().all(|s| answered(&s))
        {
            return None;
        }
        let mut moved = [Moved::Nothing; TXS];
        for (tx, moved) in moved.iter_mut().enumerate() {
            let known = members().find_map(|s| state.servers[s].txs[tx].outcome);
            let listed = members().any(|s| state.servers[s].listed[generation] & (2 << tx) != 0);
            *moved = match known {
                Some(outcome) => Moved::Outcome(outcome),
                None if listed => self.drained(state, tx, asks)?,
                None => Moved::Nothing,
            };
        }
        Some(moved)
    }

    /// What has become of a listed transaction; `None` while its value here is not final.
    fn drained(&self, state: &State, tx: usize, asks: bool) -> Option<Moved> {
        let shown = self.rule == Rule::DrainByVotes && self.votes(state, tx, true) > 0;
        let carried = (0..self.servers()).any(|server| state.servers[server].txs[tx].carried);
        if self.is_final(state, tx, Value::Aborted) {
            return Some(Moved::Outcome(Decided::Abort));
        }
        if !(self.is_final(state, tx, Value::Prepared) || carried || shown) {
            return None;
        }
        let outcome = if asks { self.outcome(state, tx) } else { None };
        match outcome {
            Some(outcome) => Some(Moved::Outcome(outcome)),
            None if tx == 1 || !self.elsewhere => Some(Moved::Outcome(Decided::Commit)),
            None if self.rule == Rule::NotCarried => Some(Moved::Nothing),
            None => Some(Moved::Carried),
        }
    }

    fn sync(&self, state: &State, server: usize) -> Option<Server> {
        let generation = Self::leaving(state)?;
        let moved = state.moved?;
        let mut after = state.servers[server];
        // Whoever has not the content of the generation before takes all of it now.
        if !self.is_member(server, generation + 1) || after.synced & (1 << generation) != 0 {
            return None;
        }
        after.synced |= 1 << generation;
        if !matches!(self.rule, Rule::NoTransfer | Rule::NoSeal) {
            for (held, moved) in after.txs.iter_mut().zip(moved) {
                if self.rule == Rule::SyncForgets {
                    held.drop_vote();
                }
                take(held, moved);
            }
        }
        Some(after)
    }

    fn apply(&self, state: &State, server: usize) -> Option<Server> {
        let mut after = state.servers[server];
        if after.view >= state.entries / 2 {
            return None;
        }
        after.view += 1;
        let view = usize::from(after.view);
        if self.rule == Rule::NoSeal {
            after.entered = after.view + 1;
        } else if after.named & (1 << (view - 1)) != 0 {
            self.enter(state, &mut after, view);
        }
        Some(after)
    }

    /// Drops undecided votes of the generations before that were not carried over.
    fn enter(&self, state: &State, server: &mut Server, generation: usize) {
        server.entered = u8::try_from(generation + 1).expect("few generations");
        for (tx, held) in server.txs.iter_mut().enumerate() {
            if state.prepared_in[tx] < generation && held.is_open() {
                held.drop_vote();
            }
        }
    }

    fn sync_from(&self, state: &State, server: usize, from: usize) -> Option<Server> {
        let mut after = state.servers[server];
        let view = usize::from(after.view);
        let giver = &state.servers[from];
        let late = self.is_member(server, view)
            && view > 0
            && usize::from(after.entered) < view + 1
            && usize::from(giver.entered) == view + 1;
        if !late {
            return None;
        }
        if !matches!(self.rule, Rule::NoTransfer | Rule::NoSeal) {
            for (held, given) in after.txs.iter_mut().zip(giver.txs) {
                let moved = match given.outcome {
                    Some(outcome) => Moved::Outcome(outcome),
                    None if given.carried => Moved::Carried,
                    None => Moved::Nothing,
                };
                take(held, moved);
            }
        }
        self.enter(state, &mut after, view);
        Some(after)
    }

    fn log(&self, state: &State) -> Option<State> {
        let mut next = state.clone();
        match Self::leaving(state) {
            None => {
                if usize::from(state.entries / 2) + 1 >= self.generations.len() {
                    return None;
                }
                next.entries += u8::from(self.rule == Rule::NoSeal);
            }
            Some(generation) => {
                let bit = 1 << generation;
                let synced = self.members(generation + 1);
                let synced = synced.filter(|s| state.servers[*s].synced & bit != 0).count();
                if synced < self.majority(generation + 1) {
                    return None;
                }
                for server in &mut next.servers {
                    server.named |= server.synced & bit;
                }
                next.moved = None;
            }
        }
        next.entries += 1;
        Some(next)
    }

    fn server_step(&self, state: &State, action: Action) -> Option<(usize, Server)> {
        let (server, after) = match action {
            Action::Votes { server, tx } => (server, self.vote(state, server, tx)),
            Action::Accepts { server, tx, round } => {
                (server, self.accept(state, server, tx, round))
            }
            Action::Promises { server, tx, round } => {
                (server, self.promise(state, server, tx, round))
            }
            Action::Learns { server, tx, outcome } => {
                let mut after = state.servers[server];
                let new = after.txs[tx].outcome.is_none()
                    && after.entered > 0
                    && self.is_decided(state, tx, outcome);
                take(&mut after.txs[tx], Moved::Outcome(outcome));
                (server, new.then_some(after))
            }
            Action::Applies { server } => (server, self.apply(state, server)),
            Action::Seals { server } => (server, self.seal(state, server)),
            Action::Syncs { server } => (server, self.sync(state, server)),
            Action::SyncsFrom { server, from } => (server, self.sync_from(state, server, from)),
            Action::Proposes { .. }
            | Action::Answers { .. }
            | Action::Elsewhere(_)
            | Action::Logs
            | Action::Transfers { .. } => return None,
        };
        after.map(|after| (server, after))
    }

    /// As `next_state` without building it.
    fn is_possible(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Proposes { tx, round, value } => self.may_propose(state, tx, round, value),
            Action::Answers { server, tx } => self
                .authority(state, server, tx)
                .is_some_and(|said| state.authority[tx] & said == 0),
            Action::Elsewhere(_) => self.elsewhere && state.elsewhere.is_none(),
            Action::Logs => self.log(state).is_some(),
            Action::Transfers { sealed, asks_elsewhere } => {
                let moved = self.transfer(state, sealed, asks_elsewhere);
                moved.is_some() && moved != state.moved
            }
            _ => self.server_step(state, action).is_some(),
        }
    }

    fn may_propose(&self, state: &State, tx: usize, round: usize, value: Value) -> bool {
        state.proposed[tx][round - 1].is_none() && {
            let [prepared, aborted] = self.proposals(state, tx, round);
            if value == Value::Prepared { prepared } else { aborted }
        }
    }

    fn all_actions(&self, state: &State) -> Vec<Action> {
        let mut all = vec![Action::Logs];
        all.extend([Value::Prepared, Value::Aborted].map(Action::Elsewhere));
        for server in 0..self.servers() {
            all.extend([
                Action::Applies { server },
                Action::Seals { server },
                Action::Syncs { server },
            ]);
            let others = (0..self.servers()).filter(|from| *from != server);
            all.extend(others.map(|from| Action::SyncsFrom { server, from }));
            for tx in 0..TXS {
                all.extend([Action::Votes { server, tx }, Action::Answers { server, tx }]);
                let outcomes = [Decided::Commit, Decided::Abort];
                all.extend(outcomes.map(|outcome| Action::Learns { server, tx, outcome }));
                for round in 1..=1 + self.recoverers[tx] {
                    all.push(Action::Accepts { server, tx, round });
                    if round > 1 {
                        all.push(Action::Promises { server, tx, round });
                    }
                }
            }
        }
        for tx in 0..TXS {
            for round in 1..=1 + self.recoverers[tx] {
                let values = [Value::Prepared, Value::Aborted];
                all.extend(values.map(|value| Action::Proposes { tx, round, value }));
            }
        }
        if let Some(generation) = Self::leaving(state) {
            let listed = (0..self.servers())
                .filter(|server| state.servers[*server].listed[generation] != 0)
                .fold(0_u8, |listed, server| listed | 1 << server);
            let asks = if self.elsewhere { &[true, false][..] } else { &[true] };
            for asks_elsewhere in asks.iter().copied() {
                let all_sets = (0..1_u8 << self.servers()).filter(|set| set & listed == *set);
                all.extend(all_sets.map(|sealed| Action::Transfers { sealed, asks_elsewhere }));
            }
        }
        all
    }
}

/// A server takes what is moved to it, or told.
pub(crate) fn take(held: &mut Held, moved: Moved) {
    match moved {
        Moved::Nothing => {}
        Moved::Outcome(outcome) => {
            held.drop_vote();
            held.carried = false;
            held.outcome.get_or_insert(outcome);
        }
        Moved::Carried => {
            // What it promised and accepted goes on to count until it enters the next generation.
            if held.outcome.is_none() {
                held.carried = true;
            }
        }
    }
}

impl Model for Changes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut states = Vec::new();
        for first in &self.prepared_in[0] {
            for second in &self.prepared_in[1] {
                let prepared_in = [*first, *second];
                let mut state = State { prepared_in, ..State::default() };
                for server in self.members(0) {
                    state.servers[server].entered = 1;
                }
                states.push(state);
            }
        }
        states
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let all = self.all_actions(state).into_iter();
        actions.extend(all.filter(|action| self.is_possible(state, *action)));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Proposes { tx, round, value } => {
                if !self.may_propose(state, tx, round, value) {
                    return None;
                }
                next.proposed[tx][round - 1] = Some(value);
            }
            Action::Answers { server, tx } => {
                next.authority[tx] |= self.authority(state, server, tx)?;
            }
            Action::Elsewhere(value) => {
                if !self.elsewhere || state.elsewhere.is_some() {
                    return None;
                }
                next.elsewhere = Some(value);
            }
            Action::Logs => next = self.log(state)?,
            Action::Transfers { sealed, asks_elsewhere } => {
                next.moved = Some(self.transfer(state, sealed, asks_elsewhere)?);
            }
            _ => {
                let (server, after) = self.server_step(state, action)?;
                next.servers[server] = after;
            }
        }
        self.sort(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
