//! What engines are asked for, by whichever driver.

use longshore_reconciler::{Effect, Fact, Listing};
use longshore_types::{EngineId, Fault, Scope};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::link::Link;
use crate::owed::Owed;

/// What an actor takes in, as far as engines answer.
pub(crate) trait Answer: Send + 'static {
    /// An answer that is passed on as it is.
    fn fact(fact: Fact) -> Self;
    /// An engine was listed, or was not.
    fn listed(engine: EngineId, result: Result<Listing, Fault>) -> Self;
}

/// Begins what `effect` asks of an engine, whose outcome comes back as an answer whatever happens. What is asked of nobody
/// is given back.
pub(crate) fn begin<A: Answer>(
    tasks: &mut JoinSet<()>,
    inbox: &UnboundedSender<A>,
    link: impl FnOnce(&EngineId) -> Option<Link>,
    effect: Effect,
) -> Option<Effect> {
    let inbox = inbox.clone();
    match effect {
        Effect::List { engine } => {
            let link = link(&engine);
            ask(tasks, inbox, link, engine, Scope::Transient, A::listed, |link| async move { link.list().await });
        }
        Effect::Probe { engine } => {
            let (link, answer) = (link(&engine), |engine, result| A::fact(Fact::Probed { engine, result }));
            ask(tasks, inbox, link, engine, Scope::Transient, answer, |link| async move { link.probe().await });
        }
        Effect::Load(load) => {
            let (link, engine) = (link(&load.engine), load.engine.clone());
            let answer = {
                let (boot, name, root) = (load.boot.clone(), load.adapter.name.clone(), load.root.clone());
                move |engine, result| A::fact(Fact::Loaded { engine, boot, name, root, result })
            };
            ask(tasks, inbox, link, engine, Scope::Unknown, answer, |link| async move { link.load(&load).await });
        }
        Effect::Unload(unload) => {
            let (link, engine) = (link(&unload.engine), unload.engine.clone());
            let answer = {
                let (boot, name) = (unload.boot.clone(), unload.name.clone());
                move |engine, result| A::fact(Fact::Unloaded { engine, boot, name, result })
            };
            ask(tasks, inbox, link, engine, Scope::Unknown, answer, |link| async move { link.unload(&unload).await });
        }
        other => return Some(other),
    }
    None
}

/// Begins one call. `lost` is the scope of one that ends without an outcome.
fn ask<A: Answer, T, C>(
    tasks: &mut JoinSet<()>,
    inbox: UnboundedSender<A>,
    link: Option<Link>,
    id: EngineId,
    lost: Scope,
    answer: impl FnOnce(EngineId, Result<T, Fault>) -> A + Clone + Send + 'static,
    call: impl FnOnce(Link) -> C,
) where
    C: Future<Output = Result<T, Fault>> + Send + 'static,
    T: Send + 'static,
{
    let Some(link) = link else {
        let fault = Fault::new(Scope::Transient, "EngineUnknown", format!("{id} is looked after no more"));
        let _ = inbox.send(answer(id, Err(fault)));
        return;
    };
    let fault = Fault::new(lost, "Abandoned", format!("a call to {id} ended without a result"));
    let owed = Owed::new(inbox, answer.clone()(id.clone(), Err(fault)));
    let call = call(link);
    tasks.spawn(async move {
        let result = call.await;
        owed.answer(answer(id, result));
    });
}
