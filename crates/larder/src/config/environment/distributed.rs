//! `DISTRIBUTED_CACHE_ENABLED` and `CACHE_NODE<n>_HOST`, `CACHE_NODE<n>_PORT`.
//!
//! They make a sharded store and make it the default cache.

use crate::config::kind::Kind;
use crate::config::origin::Origin;
use crate::config::path::SettingPath;
use crate::config::problems::quoted;
use crate::config::schema::{self, MAX_NODES};
use crate::config::settings::Draft;
use crate::config::sources::Environment;
use crate::config::value::{Raw, Value};

const SWITCH: &str = "DISTRIBUTED_CACHE_ENABLED";

/// Sets what the variables say, if the switch is on.
pub(super) fn apply(environment: &Environment, draft: &mut Draft) {
    let origin = from(SWITCH);
    if !is_on(environment, &origin, draft) {
        return;
    }
    let scheme = match environment.get("CACHE_DRIVER") {
        None | Some("" | "redis") => "redis",
        Some("memcached") => "memcached",
        Some(other) => {
            let message = format!(
                "needs CACHE_DRIVER redis or memcached, not {}",
                quoted(other)
            );
            return draft.problem(&origin, message);
        }
    };
    apply_nodes(scheme, environment, draft);
    set(
        draft,
        "stores.distributed.driver",
        "sharded",
        origin.clone(),
    );
    set(draft, "cache.default", "distributed", origin);
    let password = environment.get("REDIS_PASSWORD").unwrap_or_default();
    if scheme == "redis" && !password.is_empty() && password != "null" {
        let origin = from("REDIS_PASSWORD");
        set(draft, "stores.distributed.password", password, origin);
    }
}

fn is_on(environment: &Environment, origin: &Origin, draft: &mut Draft) -> bool {
    let Some(text) = environment.get(SWITCH).filter(|text| !text.is_empty()) else {
        return false;
    };
    match Kind::Bool.accept(&Raw::Loose(text.into())) {
        Ok(value) => value == Value::Bool(true),
        Err(message) => {
            draft.problem(origin, message);
            false
        }
    }
}

/// Sets the nodes that have a host, in place of those of the file.
fn apply_nodes(scheme: &str, environment: &Environment, draft: &mut Draft) {
    let variable = |name: String| {
        let value = environment.get(&name).filter(|value| !value.is_empty());
        value.map(|value| (name.clone(), value))
    };
    let hosts: Vec<(usize, (String, &str))> = (1..=MAX_NODES)
        .filter_map(|number| Some((number, variable(format!("CACHE_NODE{number}_HOST"))?)))
        .collect();
    let nodes = SettingPath::parse("stores.distributed.nodes");
    if hosts.is_empty() {
        if !draft.settings.has_table(&nodes) {
            let message = "needs CACHE_NODE1_HOST and so on, or [stores.distributed]";
            draft.problem(&from(SWITCH), message);
        }
        return;
    }
    draft.settings.remove_table(&nodes);
    for (index, (number, (name, host))) in hosts.into_iter().enumerate() {
        let port = variable(format!("CACHE_NODE{number}_PORT"));
        let port = port.map(|(_, port)| format!(":{port}")).unwrap_or_default();
        let url = format!("{scheme}://{host}{port}");
        let node = nodes.child(index.to_string());
        let node_name = format!("node{number}");
        set(draft, &format!("{node}.name"), &node_name, from(&name));
        set(draft, &format!("{node}.url"), &url, from(&name));
    }
}

fn from(name: &str) -> Origin {
    Origin::Env { name: name.into() }
}

fn set(draft: &mut Draft, dotted: &str, value: &str, origin: Origin) {
    let path = SettingPath::parse(dotted);
    if let Some(field) = schema::find(&path) {
        draft.set(path, field, &Raw::Loose(value.into()), origin);
    }
}
