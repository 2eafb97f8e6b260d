//! Where the examples' stores are: in the files that they make.

use std::path::Path;

/// The place of an example's store.
pub(crate) struct Place;

impl Place {
    pub(crate) fn new() -> Place {
        Place
    }

    /// How the example is told: not at all.
    pub(crate) fn arguments(&self) -> Vec<String> {
        Vec::new()
    }

    /// The address of the store of an example that runs in this directory.
    pub(crate) fn url(&self, home: &Path, example: &str) -> String {
        format!("sqlite:{}/{example}.db", home.display())
    }

    /// Lets those who died be noticed, which their locks do.
    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn bury(&self) {}
}
