//! `longshore pull`: an adapter into the store.

use std::ops::ControlFlow;

use anyhow::Result;

use crate::args::PullArgs;
use crate::artifact::{self, End, Place, Verb};
use crate::up::store;

/// Fetches, checks and stores it.
pub async fn run(args: PullArgs) -> End {
    pull(&args).await.unwrap_or_else(|error| artifact::unusable(&error))
}

async fn pull(args: &PullArgs) -> Result<End> {
    let place = Place::parse(&args.from)?;
    // Before the store is made: what is wrong with the command should leave nothing behind.
    place.url()?;
    let store = store::open(args.store.as_deref())?;
    Ok(match artifact::fetch(&place, store, None, &args.fetch).await? {
        ControlFlow::Break(end) => end,
        ControlFlow::Continue(outcome) => {
            outcome.hinted(place.instead(&args.from)).tell(Verb::Pulled, None, args.fetch.output, args.fetch.quiet)
        }
    })
}
