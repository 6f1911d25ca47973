//! The native code of a loaded component, and who runs it: what was compiled quickly gives way to what was
//! compiled well, while calls go on.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::component::Component;

use super::engine::Engine;
use super::pool::Pool;

pub(super) struct Code(Mutex<Inner>);

struct Inner {
    component: Component,
    improved: bool,
    pools: Vec<Weak<Pool>>,
}

impl Code {
    pub fn new(component: Component) -> Code {
        Code(Mutex::new(Inner {
            component,
            improved: false,
            pools: Vec::new(),
        }))
    }

    pub fn component(&self) -> Component {
        self.0.lock().component.clone()
    }

    /// Whether it is no longer the code that it was at first.
    pub fn is_improved(&self) -> bool {
        self.0.lock().improved
    }

    /// `pool` is told when the code gets better; the better code, where that was since it began with the first.
    pub fn joined_by(&self, pool: &Arc<Pool>, with_first: bool) -> Option<Component> {
        let mut inner = self.0.lock();
        if inner.improved {
            return with_first.then(|| inner.component.clone());
        }
        inner.pools.retain(|known| known.strong_count() > 0);
        inner.pools.push(Arc::downgrade(pool));
        None
    }

    /// From now on it is `component`, for those who run it already as well. Whatever keeps one of them from
    /// taking it over is returned.
    pub async fn improve(&self, engine: &Engine, component: Component) -> Vec<String> {
        let pools = {
            let mut inner = self.0.lock();
            inner.component = component.clone();
            inner.improved = true;
            std::mem::take(&mut inner.pools)
        };
        let mut refused = Vec::new();
        for pool in pools.iter().filter_map(Weak::upgrade) {
            if let Err(why) = pool.take_over(engine, &component).await {
                refused.push(why);
            }
        }
        refused
    }
}
