//! Stores and queues: driver, address, login, encryption, nodes.

use super::Rules;
use crate::config::connection::split_port;
use crate::config::origin::Origin;
use crate::config::path::SettingPath;
use crate::config::problems::quoted;
use crate::config::schema::{self, MAX_NODES};
use crate::config::url;
use crate::config::value::Value;

impl Rules<'_> {
    pub(super) fn driver(&mut self, table: &SettingPath) {
        let path = table.child("driver");
        if self.settings.is_set(&path) {
            return;
        }
        let origin = self.settings.table_origin(table);
        if let Some(field) = schema::find(&path) {
            let message = format!("{table} needs driver, {}", field.kind.describe());
            self.problem(&origin, message);
        }
    }

    pub(super) fn encryption(&mut self, table: &SettingPath) {
        let origin = |key: &str| {
            let entry = self.settings.get(&table.child(key))?;
            Some(entry.origin.clone())
        };
        let mut found = Vec::new();
        match (origin("cert"), origin("key")) {
            (Some(at), None) => found.push((at, format!("{table}.cert needs {table}.key"))),
            (None, Some(at)) => found.push((at, format!("{table}.key needs {table}.cert"))),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let url = self.settings.text(&table.child("url")).and_then(url::split);
        let scheme = url.map_or("", |parts| parts.scheme);
        let tls = self.settings.get(&table.child("tls"));
        let is_on = tls.is_some_and(|entry| entry.value == Value::Bool(true));
        let is_off = tls.is_some_and(|entry| entry.value == Value::Bool(false));
        let may_encrypt = is_on || !matches!(scheme, "redis" | "valkey" | "");
        let is_sharded = self.settings.text(&table.child("driver")) == Some("sharded");
        for key in ["ca", "cert"] {
            if let Some(at) = origin(key).filter(|_| !may_encrypt && !is_sharded) {
                let message =
                    format!("{table}.{key} needs encryption: a rediss:// URL, or tls = true");
                found.push((at, message));
            }
        }
        let contradicts = (is_off && scheme == "rediss") || (is_on && scheme == "redis");
        if let Some(at) = origin("tls").filter(|_| contradicts) {
            let message = format!("{table}.tls contradicts the {scheme}:// of {table}.url");
            found.push((at, message));
        }
        for (at, message) in found {
            self.problem(&at, message);
        }
    }

    pub(super) fn addresses(&mut self, table: &SettingPath) {
        let driver = self
            .settings
            .text(&table.child("driver"))
            .unwrap_or_default();
        let schemes: &[&str] = match driver {
            "postgres" => &["postgres", "postgresql"],
            "redis" => &["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix"],
            _ => &["redis", "rediss", "valkey", "valkeys"],
        };
        self.scheme(table, schemes);
        if let Some((host, origin)) = self.text(table, "host") {
            let plain = !host.contains('/') && matches!(split_port(host), Some((_, None)));
            if !plain {
                let message = format!(
                    "{table}.host must be a name or address alone, not {}",
                    quoted(host)
                );
                self.problem(&origin, message);
            }
        }
        let Some(entry) = self.settings.get(&table.child("servers")) else {
            return;
        };
        let Value::List(servers) = &entry.value else {
            return;
        };
        if servers.is_empty() {
            let message = format!("{table}.servers is empty");
            self.problems.push(&entry.origin, message);
        }
        for server in servers.iter().filter(|server| split_port(server).is_none()) {
            let message = format!(
                "{table}.servers must be host:port each, not {}",
                quoted(server)
            );
            self.problems.push(&entry.origin, message);
        }
    }

    pub(super) fn buckets(&mut self, table: &SettingPath) {
        let path = table.child("buckets");
        let Some(entry) = self.settings.get(&path) else {
            return;
        };
        let Value::Integer(buckets) = entry.value else {
            return;
        };
        if !buckets.is_power_of_two() {
            let (below, above) = (1 << buckets.ilog2(), buckets.next_power_of_two());
            let message =
                format!("{path} must be a power of two, like {below} or {above}, not {buckets}");
            self.problems.push(&entry.origin, message);
        }
    }

    pub(super) fn nodes(&mut self, nodes: &SettingPath) {
        let store = nodes.parent();
        if self.settings.text(&store.child("driver")) != Some("sharded") {
            return;
        }
        let mut names = Vec::new();
        let mut primaries = 0;
        let elements = self.settings.tables_in(nodes);
        let origin = self.settings.table_origin(&store);
        for index in &elements {
            let node = nodes.child(index);
            let at = self.settings.table_origin(&node);
            self.node(&node, &at);
            match self.text(&node, "name") {
                Some((name, at)) if names.iter().any(|known| known == name) => {
                    let message = format!("{node}.name is taken by another node: {}", quoted(name));
                    self.problem(&at, message);
                }
                Some((name, at)) => {
                    let name = name.to_owned();
                    self.name(&format!("{node}.name"), &name, &at);
                    names.push(name);
                }
                None => {}
            }
            let is_replica = self.settings.text(&node.child("role")) == Some("replica");
            primaries += usize::from(!is_replica);
        }
        if elements.is_empty() && !self.settings.is_set(nodes) {
            let message = format!(
                "{store} needs nodes: nodes = [{{ name = \"a\", url = \"redis://10.0.0.1\" }}]"
            );
            self.problem(&origin, message);
        } else if primaries == 0 && !elements.is_empty() {
            self.problem(&origin, format!("{store} needs a node of role primary"));
        } else if self.replicas(&store) > elements.len() as u64 && !elements.is_empty() {
            let message = format!("{store}.replicas is more than the {} nodes", elements.len());
            self.problem(&origin, message);
        } else if elements.len() > MAX_NODES {
            self.problem(&origin, format!("{store} has over {MAX_NODES} nodes"));
        }
    }

    fn replicas(&self, store: &SettingPath) -> u64 {
        let entry = self.settings.get(&store.child("replicas"));
        match entry.map(|entry| &entry.value) {
            Some(Value::Integer(replicas)) => *replicas,
            _ => 1,
        }
    }

    fn node(&mut self, node: &SettingPath, origin: &Origin) {
        self.scheme(node, &["redis", "rediss", "memcached"]);
        let has = |key: &str| self.settings.is_set(&node.child(key));
        let (url, host, port, name) = (has("url"), has("host"), has("port"), has("name"));
        if !name {
            let message = format!("{node} needs name, its identity whatever its address");
            self.problem(origin, message);
        }
        match (url, host || port) {
            (true, true) => self.problem(origin, format!("{node} has both url and host: keep one")),
            (false, _) if !host => {
                self.problem(origin, format!("{node} needs url or host, where it is"));
            }
            _ => {}
        }
    }
}
