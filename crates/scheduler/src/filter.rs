//! The rules, one small unit each. The order is the order in which reasons are found: what never changes by itself comes
//! first, then what passes with time, then room.

use crate::{Candidate, Reason, Replicas};

/// When a rule is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For new replicas and for those that are there.
    Permanent,
    /// For every new replica.
    New,
    /// For a new replica where there is a choice to be made.
    Choice,
}

/// One rule and how it is worded.
struct Rule {
    kind: Kind,
    passes: fn(&Candidate<'_>) -> bool,
    reason: fn(&Candidate<'_>) -> Reason,
}

const RULES: [&Rule; 10] =
    [&BASE_MODEL, &RANK, &BASE_MODEL_KNOWN, &AVOID, &DRAINING, &READY, &STABLE, &STALLED, &SLOT, &MEMORY];

/// Whether a replica that is there may stay.
pub(crate) fn may_stay(candidate: &Candidate<'_>) -> bool {
    RULES.iter().all(|rule| rule.kind != Kind::Permanent || (rule.passes)(candidate))
}

/// Whether a replica may be added.
pub(crate) fn may_join(candidate: &Candidate<'_>) -> bool {
    refusal(candidate).is_none()
}

/// Why a replica may not be added.
pub(crate) fn reason(candidate: &Candidate<'_>) -> Option<Reason> {
    refusal(candidate).map(|rule| (rule.reason)(candidate))
}

fn refusal(candidate: &Candidate<'_>) -> Option<&'static Rule> {
    let choice = matches!(candidate.adapter().replicas, Replicas::Count(_));
    RULES.into_iter().find(|rule| (choice || rule.kind != Kind::Choice) && !(rule.passes)(candidate))
}

const BASE_MODEL: Rule = Rule {
    kind: Kind::Permanent,
    passes: |c| {
        let served = &c.engine().base_models;
        c.adapter().base_model.as_ref().is_none_or(|wanted| served.is_empty() || served.contains(wanted))
    },
    reason: |c| Reason::BaseModel { wanted: c.adapter().base_model.clone().unwrap_or_default() },
};

const RANK: Rule = Rule {
    kind: Kind::Permanent,
    passes: |c| !matches!((c.adapter().rank, c.engine().max_rank), (Some(rank), Some(max)) if rank > max),
    reason: |c| Reason::Rank {
        rank: c.adapter().rank.unwrap_or_default(),
        max: c.engine().max_rank.unwrap_or_default(),
    },
};

const BASE_MODEL_KNOWN: Rule = Rule {
    kind: Kind::New,
    passes: |c| c.adapter().base_model.is_none() || !c.engine().base_models.is_empty(),
    reason: |_| Reason::BaseModelUnknown,
};

const AVOID: Rule =
    Rule { kind: Kind::New, passes: |c| !c.adapter().avoid.contains(&c.engine().id), reason: |_| Reason::Avoided };

const DRAINING: Rule = Rule { kind: Kind::New, passes: |c| !c.engine().draining, reason: |_| Reason::Draining };

const READY: Rule = Rule { kind: Kind::Choice, passes: |c| c.engine().ready, reason: |_| Reason::NotReady };

const STABLE: Rule = Rule { kind: Kind::Choice, passes: |c| c.engine().stable, reason: |_| Reason::Unstable };

const STALLED: Rule = Rule { kind: Kind::Choice, passes: |c| !c.engine().stalled, reason: |_| Reason::Stalled };

const SLOT: Rule = Rule {
    kind: Kind::New,
    passes: |c| c.engine().max_adapters.is_none_or(|max| c.taken() < max),
    reason: |_| Reason::NoSlot,
};

const MEMORY: Rule = Rule {
    kind: Kind::New,
    passes: |c| {
        let needed = u128::from(c.adapter().memory.unwrap_or_default());
        c.engine().memory.is_none_or(|memory| needed == 0 || c.memory_taken() + needed <= u128::from(memory))
    },
    reason: |c| Reason::NoMemory { needed: c.adapter().memory.unwrap_or_default() },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adapter, Engine};

    /// Whether `engine`, with `taken` slots and bytes in use by others, refuses `adapter`; and may keep it.
    fn refused(adapter: &Adapter, engine: &Engine, taken: u32) -> (Option<Reason>, bool) {
        let candidate = Candidate::new(adapter, engine, taken, u128::from(taken));
        assert_eq!(may_join(&candidate), reason(&candidate).is_none());
        (reason(&candidate), may_stay(&candidate))
    }

    #[test]
    fn an_engine_of_which_nothing_is_known_takes_an_adapter_that_asks_for_nothing() {
        assert_eq!(refused(&Adapter::new("a"), &Engine::new("e"), u32::MAX), (None, true));
    }

    #[test]
    fn each_rule_refuses_with_its_own_reason() {
        let adapter = Adapter { base_model: Some("m".into()), rank: Some(16), memory: Some(10), ..Adapter::new("a") };
        let good = Engine {
            base_models: ["l".into(), "m".into()].into(),
            max_rank: Some(16),
            max_adapters: Some(3),
            memory: Some(12),
            ..Engine::new("e")
        };
        assert_eq!(refused(&adapter, &good, 2), (None, true));

        let other = Reason::BaseModel { wanted: "m".into() };
        let cases = [
            (Engine { base_models: ["l".into()].into(), ..good.clone() }, other, false),
            (Engine { max_rank: Some(15), ..good.clone() }, Reason::Rank { rank: 16, max: 15 }, false),
            (Engine { base_models: [].into(), ..good.clone() }, Reason::BaseModelUnknown, true),
            (Engine { draining: true, ..good.clone() }, Reason::Draining, true),
            (Engine { ready: false, ..good.clone() }, Reason::NotReady, true),
            (Engine { stable: false, ..good.clone() }, Reason::Unstable, true),
            (Engine { stalled: true, ..good.clone() }, Reason::Stalled, true),
            (Engine { max_adapters: Some(2), ..good.clone() }, Reason::NoSlot, true),
            (Engine { memory: Some(11), ..good.clone() }, Reason::NoMemory { needed: 10 }, true),
        ];
        for (engine, reason, stays) in cases {
            assert_eq!(refused(&adapter, &engine, 2), (Some(reason), stays));
        }
        let adapter = Adapter { avoid: ["e".into()].into(), ..adapter };
        assert_eq!(refused(&adapter, &good, 2), (Some(Reason::Avoided), true));
    }

    #[test]
    fn readiness_does_not_gate_where_every_engine_is_wanted() {
        let adapter = Adapter { replicas: Replicas::All, ..Adapter::new("a") };
        let engine = Engine { ready: false, stable: false, stalled: true, ..Engine::new("e") };
        assert_eq!(refused(&adapter, &engine, 0).0, None);
        assert_eq!(refused(&adapter, &Engine { draining: true, ..engine }, 0).0, Some(Reason::Draining));
    }

    #[test]
    fn an_adapter_of_unknown_rank_or_memory_is_not_refused_for_it() {
        let engine = Engine { max_rank: Some(1), memory: Some(0), ..Engine::new("e") };
        assert_eq!(refused(&Adapter::new("a"), &engine, 5).0, None);
    }
}
