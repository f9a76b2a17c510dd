//! Markers: how far a job that must survive a crash has come.

use souk::store::operations::MarkerStore;

use crate::harness::Under;

conformance!(markers: a_marker_holds_what_was_set_last, markers_do_not_touch_one_another,);

async fn a_marker_holds_what_was_set_last(markers: Under<dyn MarkerStore>) {
    assert_eq!(markers.port.marker("fill").await.unwrap(), None);
    markers.port.set_marker("fill", "began").await.unwrap();
    markers.port.set_marker("fill", "ended").await.unwrap();
    assert_eq!(markers.port.marker("fill").await.unwrap().as_deref(), Some("ended"));
}

async fn markers_do_not_touch_one_another(markers: Under<dyn MarkerStore>) {
    markers.port.set_marker("one", "1").await.unwrap();
    markers.port.set_marker("other", "2").await.unwrap();
    assert_eq!(markers.port.marker("one").await.unwrap().as_deref(), Some("1"));
}
