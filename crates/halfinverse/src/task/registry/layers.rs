//! Networks of the layers that a task file lists.

use toml::{Table, Value};

use super::{Registry, find};
use crate::error::SettingError;
use crate::network::{Bounds, Dense, Layer, Network, NetworkError, Units};
use crate::tables::{self, join};
use crate::task::settings::NetworkSettings;

impl Registry {
    /// The network between so many inputs and controls: hidden layers with their activation, or the layers listed; a
    /// dense layer to the controls, where the settings have one; and the bounds.
    pub(in crate::task) fn build_network(
        &self,
        settings: &NetworkSettings,
        inputs: usize,
        controls: usize,
    ) -> Result<Network, SettingError> {
        let hidden = format!("{:?}", settings.hidden);
        let key = if settings.layers.is_empty() { "network.hidden" } else { "network.layers" };
        let refuse = |error: NetworkError| SettingError::misfit(key, error);
        let mut layers: Vec<Box<dyn Layer>> = Vec::new();
        let mut width = inputs;
        if settings.layers.is_empty() {
            for &next in &settings.hidden {
                layers.push(Box::new(Dense::new(width, next).map_err(refuse)?));
                layers.push(Box::new(Units::new(settings.activation, next)));
                width = next;
            }
        } else if settings.hidden.is_empty() {
            layers = self.stack(&settings.layers, inputs, "network.layers")?;
            width = layers.last().map_or(inputs, |layer| layer.outputs());
        } else {
            return Err(SettingError::new(
                "network.hidden",
                hidden,
                "[] where network.layers lists the layers",
            ));
        }
        if settings.head {
            layers.push(Box::new(Dense::new(width, controls).map_err(refuse)?));
        } else if settings.layers.is_empty() {
            return Err(SettingError::new("network.head", false, "true where network.layers lists no layer"));
        } else if width != controls {
            let reason = format!(
                "the last layer has {width} outputs, and the simulator takes {controls} controls; network.head = true puts a dense layer between them"
            );
            return Err(SettingError::misfit("network.layers", reason));
        }
        if !settings.bounds.is_empty() {
            let bounds = Bounds::new(&settings.bounds, controls);
            layers.push(Box::new(bounds.map_err(|error| error.within("network"))?));
        }
        Network::new(layers).map_err(refuse)
    }

    /// Layers of their settings, one after the other.
    pub(super) fn stack(
        &self,
        layers: &[Table],
        inputs: usize,
        path: &str,
    ) -> Result<Vec<Box<dyn Layer>>, SettingError> {
        let mut width = inputs;
        let layer = |(i, table): (usize, &Table)| {
            let place = join(path, &i.to_string());
            let mut settings = table.clone();
            let kind = settings.remove("kind").unwrap_or_else(|| Value::from(""));
            let kind = tables::text_of(&kind);
            let part = find(&self.layers, &join(&place, "kind"), &kind)?;
            let layer = (part.build)(&settings, width, self).map_err(|error| error.within(&place))?;
            width = layer.outputs();
            Ok(layer)
        };
        layers.iter().enumerate().map(layer).collect()
    }
}
