use super::*;

type Test = Flight<u32, String>;

fn enter(flights: &Arc<Flights>) -> Entered<u32, String> {
    let depends = Depends::On([Register::new(b'=', b"t")].into());
    flights.enter(b"k", 0, (&depends, false)).unwrap()
}

fn is_idle(flights: &Flights) -> bool {
    flights.is_idle() && flights.shards.iter().all(|shard| lock(shard).is_empty())
}

#[tokio::test]
async fn everybody_who_waits_gets_the_outcome_and_the_slot_is_freed() {
    let flights = Arc::new(Flights::new());
    let Entered::Leads(pilot, first) = enter(&flights) else {
        panic!("the first one leads")
    };
    let Entered::Joins(second) = enter(&flights) else {
        panic!("the second one joins")
    };
    pilot.land(Ok(Some(Arc::new(7))));
    assert!(is_idle(&flights));
    assert_eq!(second.outcome().await.unwrap(), Some(Arc::new(7)));
    let last = first.outcome().await.unwrap().unwrap();
    assert_eq!(Arc::try_unwrap(last), Ok(7));
}

#[tokio::test]
async fn a_dropped_pilot_is_an_error_for_all_and_leaks_nothing() {
    let flights = Arc::new(Flights::new());
    let Entered::Leads(pilot, first) = enter(&flights) else {
        panic!("the first one leads")
    };
    drop(pilot);
    let Err(RememberError::Cache(error)) = first.outcome().await else {
        panic!("an error")
    };
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(is_idle(&flights));
}

#[tokio::test]
async fn a_forgotten_flight_cannot_be_joined_and_does_not_remove_its_successor() {
    let flights = Arc::new(Flights::new());
    let Entered::Leads(old, waiter) = enter(&flights) else {
        panic!("the first one leads")
    };
    flights.forget(b"k");
    assert!(!flights.is_joinable::<u32, String>(b"k", 0));
    let Entered::Leads(new, _waits) = enter(&flights) else {
        panic!("a new one leads")
    };
    old.land(Ok(None));
    assert!(flights.is_joinable::<u32, String>(b"k", 0));
    assert_eq!(waiter.outcome().await.unwrap(), None);
    drop(new);
    assert!(is_idle(&flights));
}

#[tokio::test]
async fn only_flights_that_depend_on_a_register_are_forgotten_for_it() {
    let flights = Arc::new(Flights::new());
    let Entered::Leads(_pilot, _waits) = enter(&flights) else {
        panic!("the first one leads")
    };
    let means = |tag| [Selector::parse(tag).unwrap()];
    flights.forget_depending(&means("other"));
    assert!(flights.is_joinable::<u32, String>(b"k", 0));
    flights.forget_depending(&means("[st]"));
    assert!(!flights.is_joinable::<u32, String>(b"k", 0));
    let unknown = flights.enter::<u32, String>(b"k", 0, (&Depends::Unknown, false));
    let Ok(Entered::Leads(_pilot, _waits)) = unknown else {
        panic!("a new one leads")
    };
    flights.forget_depending(&means("other"));
    assert!(!flights.is_joinable::<u32, String>(b"k", 0));
}

#[test]
fn waiters_are_bounded() {
    let state = FlightState {
        waiters: MAX_WAITERS,
        outcome: None,
    };
    let flight: Arc<Test> = Arc::new(Flight {
        id: LoadId::new(b"k"),
        state: Mutex::new(state),
        landed: Notify::new(),
        standing: Arc::default(),
    });
    assert_eq!(flight.join().err().unwrap().kind(), ErrorKind::Overloaded);
}
