//! Edge providers.

use super::Rules;
use crate::config::path::SettingPath;
use crate::config::problems::quoted;
use crate::config::url;
use crate::config::value::Value;

impl Rules<'_> {
    pub(super) fn providers(&mut self) {
        let parent = SettingPath::parse("edge.providers");
        for name in self.settings.tables_in(&parent) {
            let table = parent.child(name);
            let driver = self
                .settings
                .text(&table.child("driver"))
                .unwrap_or_default();
            let needed: &[&str] = match driver {
                "varnish" | "nginx" | "souin" | "http" => &["servers"],
                "cloudflare" | "bunny" => &["api_token", "zone_id"],
                "fastly" => &["api_token", "service_id"],
                "cloudfront" => &["access_key", "secret_key", "distribution_id"],
                "akamai" => &["url", "access_key", "secret_key", "access_token"],
                _ => &[],
            };
            let origin = self.settings.table_origin(&table);
            self.web_addresses(&table);
            let missing = needed
                .iter()
                .filter(|key| !self.settings.is_set(&table.child(**key)));
            for key in missing {
                let message = format!("{table} needs {key}, as driver {driver}");
                self.problems.push(&origin, message);
            }
        }
    }

    fn web_addresses(&mut self, provider: &SettingPath) {
        self.scheme(provider, &["https", "http"]);
        let Some(entry) = self.settings.get(&provider.child("servers")) else {
            return;
        };
        let Value::List(servers) = &entry.value else {
            return;
        };
        let is_web = |server: &&String| {
            url::split(server).is_some_and(|parts| matches!(parts.scheme, "http" | "https"))
        };
        for server in servers.iter().filter(|server| !is_web(server)) {
            let message = format!(
                "{provider}.servers must be http:// or https:// URLs, not {}",
                quoted(server)
            );
            self.problems.push(&entry.origin, message);
        }
    }
}
