//! "trip stays only where the vehicle rule holds": air same row +-3; sealed train whole coach; ventilated train same and
//! adjacent bay; sealed bus everyone; ventilated bus +-3 rows; ship cabin.

/// Where somebody sits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aboard {
    /// The kind of vehicle, in the feeds' words.
    pub vehicle: &'static str,
    /// Coach of a train.
    pub coach: Option<String>,
    /// Bay of a coach.
    pub bay: Option<i64>,
    /// Row of seats.
    pub row: Option<i64>,
    /// Cabin of a ship.
    pub cabin: Option<String>,
}

/// What the rule of the vehicle looks at.
pub fn looked_at(a: &Aboard) -> (&'static str, Option<String>, Option<i64>) {
    match a.vehicle {
        "air" | "bus-ventilated" => (a.vehicle, None, a.row),
        "train-sealed" => (a.vehicle, a.coach.clone(), None),
        "train-ventilated" => (a.vehicle, a.coach.clone(), a.bay),
        "ship" => (a.vehicle, a.cabin.clone(), None),
        _ => (a.vehicle, None, None),
    }
}

/// Whether the rule of the vehicle holds for two who are on one trip.
pub fn near(a: &Aboard, b: &Aboard) -> bool {
    let within = |a: Option<i64>, b: Option<i64>, most: i64| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= most,
        _ => false,
    };
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    a.vehicle == b.vehicle
        && match a.vehicle {
            "air" | "bus-ventilated" => within(a.row, b.row, 3),
            "train-sealed" => same(&a.coach, &b.coach),
            "train-ventilated" => same(&a.coach, &b.coach) && within(a.bay, b.bay, 1),
            "bus-sealed" => true,
            "ship" => same(&a.cabin, &b.cabin),
            other => panic!("no rule for {other}"),
        }
}
