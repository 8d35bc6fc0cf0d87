//! A person's day: from bed to bed in pieces, each at one spot or on one even way, without a gap and without a jump.

use super::map::{Map, Point, Setting, VENUE_KINDS, Venue, flat_metres};
use super::people::{Age, Desk, Person};
use crate::synth::draw::{Normal, Stream, below, unit};
use crate::time::{DAY_MS, HOUR_MS, Millis};

const MINUTE_MS: f64 = 60_000.0;
/// How fast one moves, m/s: inside a building, on foot, by bicycle, by car and bus in a city, by train.
const STEP: f64 = 1.2;
const WALK: f64 = 1.3;
const BICYCLE: f64 = 4.0;
const CAR: f64 = 7.0;
const BUS: f64 = 6.0;
const TRAIN: f64 = 11.0;
const AMBULANCE: f64 = 15.0;
/// From so far on a train goes.
const TRAIN_M: f64 = 6_000.0;
/// Between two departures of a bus and of a train, ms.
const BUS_EVERY_MS: f64 = 600_000.0;
const TRAIN_EVERY_MS: f64 = 360_000.0;
/// Seats in a row and rows of a bus, coaches of a train.
const BUS_ROWS: u64 = 11;
const COACHES: u64 = 6;
/// The shortest that somebody stays anywhere.
const STAY_MS_MIN: f64 = 300_000.0;
/// Share of the days after the onset of symptoms that a case stays at home, before being isolated.
const HOME_WHEN_ILL: f64 = 0.5;
/// By when one is home again.
const HOME_BY_MS: f64 = 23.5 * HOUR_MS as f64;

/// One spot, or one even way, over [start, end).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// First instant, ms of the city's time.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// Where it starts.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
    /// What is done there.
    pub setting: Setting,
    /// The room, coach or car whose air is shared; 0 in the open.
    pub air: u64,
}

/// A time in a venue.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// Where.
    pub venue: Venue,
    /// The floor, from 0.
    pub floor: u64,
}

/// A ride in a bus or a train.
#[derive(Debug, Clone, Copy)]
pub struct Ride {
    /// When it starts.
    pub start: Millis,
    /// When it ends.
    pub end: Millis,
    /// Number of the stop where it starts, and of that where it ends.
    pub stops: (u64, u64),
    /// Number of the departure on its day.
    pub departure: u64,
    /// Whether it is a train.
    pub train: bool,
    /// Row of the seat of a bus, coach of a train; from 1.
    pub seat: u64,
}

/// What became of a day.
#[derive(Debug, Default)]
pub struct Day {
    /// In the order of time, without gaps.
    pub pieces: Vec<Piece>,
    /// In the order of time.
    pub visits: Vec<Visit>,
    /// In the order of time.
    pub rides: Vec<Ride>,
}

/// What of a case changes its days.
#[derive(Debug, Clone, Copy)]
pub struct Illness {
    /// When symptoms begin.
    pub onset_at: Millis,
    /// From when on the case is isolated.
    pub isolated_at: Millis,
}

/// Draws one after the other.
#[derive(Debug)]
pub struct Dice {
    draws: Stream,
    thrown: u64,
}

impl Dice {
    /// Of this stream.
    pub fn new(draws: Stream) -> Self {
        Dice { draws, thrown: 0 }
    }

    /// A draw of 64 even bits.
    pub fn draw(&mut self) -> u64 {
        self.thrown += 1;
        self.draws.draw(self.thrown)
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        unit(self.draw())
    }

    /// A number in [from, to).
    pub fn within(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// Whether it happens that has this share.
    pub fn happens(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A whole number below n.
    pub fn below(&mut self, n: u64) -> u64 {
        let draw = self.draw();
        below(draw, n)
    }
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Home,
    Desk(Desk),
    Venue(Venue, Stream),
}

/// Where one is until when, ms of the day.
#[derive(Debug, Clone, Copy)]
struct Stop {
    place: Place,
    leave_ms: f64,
}

/// What a day is made from.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// The map.
    pub map: &'a Map,
    /// The normal distribution.
    pub normal: &'a Normal,
    /// Start of the day.
    pub start: Millis,
    /// How many days it lies before the last.
    pub days_before: u64,
}

/// Days before the last are drawn from the stream of this number and more.
const DAYS: u64 = 1 << 32;

impl Making<'_> {
    /// 0 is Monday: the city's last day, 2022-03-21, is one.
    fn weekday(&self) -> u64 {
        (7 - self.days_before % 7) % 7
    }

    /// A person's day.
    pub fn day(&self, person: &Person, ill: Option<&Illness>, day: &mut Day) {
        let mut dice = Dice::new(person.draws.stream(DAYS + self.days_before));
        let mut stops = self.stops(person, &mut dice);
        if ill.is_some_and(|ill| ill.onset_at < self.start && dice.happens(HOME_WHEN_ILL)) {
            stops.truncate(1);
            stops[0].leave_ms = f64::INFINITY;
        }
        day.pieces.clear();
        day.visits.clear();
        day.rides.clear();
        let mut drawing = Drawing { making: self, person, dice, day, ms: 0.0, at: person.bed() };
        for n in 0..stops.len() {
            let Some(next) = stops.get(n + 1) else {
                drawing.stay(&stops[n].place, DAY_MS as f64);
                break;
            };
            let leave_ms = stops[n].leave_ms.max(drawing.ms + STAY_MS_MIN);
            drawing.stay(&stops[n].place, leave_ms);
            drawing.go(drawing.entrance(&next.place));
        }
        if let Some(ill) = ill.filter(|ill| ill.isolated_at < self.start + DAY_MS) {
            self.isolate(person, ill.isolated_at, day);
        }
    }

    /// From an instant on the case is elsewhere, alone.
    fn isolate(&self, person: &Person, at: Millis, day: &mut Day) {
        day.pieces.retain(|piece| piece.start < at);
        day.visits.retain(|visit| visit.end <= at);
        day.rides.retain(|ride| ride.end <= at);
        let mut from = self.start;
        if let Some(last) = day.pieces.last_mut() {
            if last.end > at {
                last.to =
                    last.from.towards(last.to, (at - last.start) as f64 / (last.end - last.start) as f64);
                last.end = at;
            }
            from = last.end;
        }
        let room = self.map.isolation(person.number);
        let air = air(9, person.number, 0);
        let (end, setting) = (self.start + DAY_MS, Setting::Isolation);
        // Somebody drives there, fast enough to come before the day is over.
        if let Some(here) = day.pieces.last().map(|piece| piece.to) {
            let takes_ms = (here.metres_to(room) / AMBULANCE * 1_000.0) as Millis + 1;
            let there = (from + takes_ms).min(end);
            if from < there {
                day.pieces.push(Piece { start: from, end: there, from: here, to: room, setting, air });
                from = there;
            }
        }
        if from < end {
            day.pieces.push(Piece { start: from, end, from: room, to: room, setting, air });
        }
    }

    /// Where the day leads, in the order of time; the last stop is home.
    fn stops(&self, person: &Person, dice: &mut Dice) -> Vec<Stop> {
        let mut stops = Vec::with_capacity(6);
        let normal = |dice: &mut Dice, mean_h: f64, sd_h: f64| {
            let z = self.normal.at((dice.draw() >> 32) as u32);
            (mean_h + sd_h * z) * HOUR_MS as f64
        };
        let mut add =
            |place: Place, leave_ms: f64| stops.push(Stop { place, leave_ms: leave_ms.min(HOME_BY_MS) });
        let weekend = self.weekday() >= 5;
        match (person.age, person.desk) {
            (Age::Adult, Some(desk)) if !weekend => {
                add(Place::Home, normal(dice, 7.7, 0.7));
                // Teams go to lunch together.
                let team = self.of_team(&desk);
                let mut common = Dice::new(team);
                let (at, out) = (normal(&mut common, 12.0, 0.3), common.happens(0.35));
                let lunch = self.restaurant_near(&desk, &mut common);
                if out && dice.happens(0.8) {
                    add(Place::Desk(desk), at);
                    add(Place::Venue(lunch, team.stream(1)), at + 50.0 * MINUTE_MS);
                }
                add(Place::Desk(desk), normal(dice, 18.0, 0.8));
                if dice.happens(0.3) {
                    let kind = dice.below(2) as usize;
                    let minutes = dice.within(12.0, 35.0);
                    let shop = self.somewhere(person, kind, dice);
                    let until = normal(dice, 18.7, 0.5) + minutes * MINUTE_MS;
                    add(Place::Venue(shop, person.draws), until);
                } else if dice.happens(0.2) {
                    let (kind, hours) = (2, dice.within(0.9, 1.8));
                    let restaurant = self.somewhere(person, kind, dice);
                    add(Place::Venue(restaurant, person.household_draws), (19.0 + hours) * HOUR_MS as f64);
                }
            }
            (Age::Pupil | Age::Child, Some(desk)) if !weekend => {
                let (to, back) = if person.age == Age::Pupil { (7.5, 16.4) } else { (8.2, 16.7) };
                add(Place::Home, normal(dice, to, 0.2));
                add(Place::Desk(desk), normal(dice, back, 0.3));
                if dice.happens(0.3) {
                    let kind = if dice.happens(0.6) { 5 } else { 0 };
                    let park = self.somewhere(person, kind, dice);
                    let minutes = dice.within(20.0, 60.0);
                    add(Place::Venue(park, person.draws), (16.7 + minutes / 60.0) * HOUR_MS as f64);
                }
            }
            _ if weekend => {
                // Households often go out together.
                let day = person.household_draws.stream(DAYS + self.days_before);
                for (outing, hour, share) in [(0, 10.0, 0.5), (1, 15.0, 0.6)] {
                    let mut common = Dice::new(day.stream(outing));
                    let together = common.happens(0.6);
                    let own = &mut Dice::new(person.draws.stream(DAYS + self.days_before).stream(1 + outing));
                    let plan = if together { &mut common } else { own };
                    let (goes, leave) = (plan.happens(share), normal(plan, hour, 0.8));
                    let kind = [4, 5, 2, 0, 1, 3][(plan.unit() * plan.unit() * 6.0) as usize];
                    let (hours, venue) = (plan.within(0.7, 3.0), self.somewhere(person, kind, plan));
                    if goes && dice.happens(0.9) {
                        add(Place::Home, leave);
                        add(Place::Venue(venue, day.stream(2)), leave + hours * HOUR_MS as f64);
                    }
                }
            }
            _ => {
                for (hour, share) in [(8.8, 0.75), (15.0, 0.5)] {
                    let (goes, leave) = (dice.happens(share), normal(dice, hour, 0.9));
                    let kind = [5, 1, 0, 3, 2, 5][dice.below(6) as usize];
                    let (hours, venue) = (dice.within(0.5, 2.5), self.somewhere(person, kind, dice));
                    if goes {
                        add(Place::Home, leave);
                        add(Place::Venue(venue, person.draws), leave + hours * HOUR_MS as f64);
                    }
                }
            }
        }
        add(Place::Home, f64::INFINITY);
        stops
    }

    /// What a team has in common on a day.
    fn of_team(&self, desk: &Desk) -> Stream {
        self.map.common(desk.key).stream(desk.team).stream(DAYS + self.days_before)
    }

    fn restaurant_near(&self, desk: &Desk, dice: &mut Dice) -> Venue {
        // The building's own district is in its key.
        let district = (desk.key >> 16) & 0xFF_FFFF;
        self.map.some_venue(district, 2, dice.draw())
    }

    fn somewhere(&self, person: &Person, kind: usize, dice: &mut Dice) -> Venue {
        let how = dice.unit();
        let district = if how < 0.55 {
            person.district
        } else if how < 0.85 {
            self.map.near(person.district, dice.draw())
        } else {
            self.map.central(dice.draw())
        };
        self.map.some_venue(district, kind, dice.draw())
    }
}

/// A number for air that nobody else shares by chance.
fn air(kind: u64, a: u64, b: u64) -> u64 {
    Stream::of_seed(kind).stream(a).draw(b) | 1
}

struct Drawing<'a, 'd> {
    making: &'a Making<'a>,
    person: &'a Person,
    dice: Dice,
    day: &'d mut Day,
    /// Up to here the day is drawn, ms of the day.
    ms: f64,
    /// Where one is then.
    at: Point,
}

impl Drawing<'_, '_> {
    /// A piece from where one is to a point, up to an instant of the day.
    fn piece(&mut self, to: Point, until_ms: f64, setting: Setting, air: u64) {
        let at = |ms: f64| self.making.start + (ms.min(DAY_MS as f64)) as Millis;
        let (start, end) = (at(self.ms), at(until_ms));
        if start < end {
            self.day.pieces.push(Piece { start, end, from: self.at, to, setting, air });
        }
        (self.ms, self.at) = (until_ms, to);
    }

    /// Steps to a spot in the same building and stands there up to an instant.
    fn stand(&mut self, spot: Point, until_ms: f64, setting: Setting, air: u64) {
        let metres = self.at.metres_to(spot);
        if metres > 0.0 {
            let there_ms = self.ms + metres / STEP * 1_000.0;
            if there_ms > until_ms {
                // It is not worth the way any more.
                return self.piece(self.at, until_ms, setting, air);
            }
            self.piece(spot, there_ms, setting, air);
        }
        if self.ms < until_ms {
            self.piece(spot, until_ms, setting, air);
        }
    }

    /// An even way at so many metres a second.
    fn way(&mut self, to: Point, speed: f64, setting: Setting, air: u64) {
        let metres = self.at.metres_to(to);
        if metres > 0.0 {
            self.piece(to, self.ms + metres / speed * 1_000.0, setting, air);
        }
    }

    fn entrance(&self, place: &Place) -> Point {
        match place {
            Place::Home => self.person.flat.moved(0.0, -3.0, 0.0),
            Place::Desk(desk) => desk.room().moved(0.0, -3.0, 0.0),
            Place::Venue(venue, _) => venue.middle.moved(0.0, -venue.kind().side_m / 2.0, 0.0),
        }
    }

    /// The way to another building.
    fn go(&mut self, to: Point) {
        let metres = flat_metres(self.at, to);
        let (from_stop, from_number) = self.making.map.stop(self.at);
        let (to_stop, to_number) = self.making.map.stop(to);
        if Person::walks(self.at, to) {
            self.way(to, WALK, Setting::Way, 0);
        } else if self.person.drives {
            // Long ways lead over fast roads.
            let speed = CAR + (metres / 4_000.0).min(10.0);
            self.way(to, speed, Setting::Way, air(8, self.person.number, 0));
        } else if from_number == to_number {
            self.way(to, BICYCLE, Setting::Way, 0);
        } else {
            self.way(from_stop, WALK, Setting::Way, 0);
            self.ride((from_stop, from_number), (to_stop, to_number));
            self.way(to, WALK, Setting::Way, 0);
        }
    }

    /// Waits for the next departure, and rides from stop to stop.
    fn ride(&mut self, from: (Point, u64), to: (Point, u64)) {
        let metres = flat_metres(from.0, to.0);
        let train = metres >= TRAIN_M;
        let (every_ms, speed) = if train { (TRAIN_EVERY_MS, TRAIN) } else { (BUS_EVERY_MS, BUS) };
        let line = self.making.map.common(from.1).stream(to.1);
        let offset_ms = every_ms * unit(line.draw(0));
        let departure = ((self.ms - offset_ms) / every_ms).ceil().max(0.0);
        let leaves_ms = departure * every_ms + offset_ms;
        let seat = 1 + self.dice.below(if train { COACHES } else { BUS_ROWS });
        // Along the vehicle and across it; a coach is 20 m long, rows of a bus are 0.9 m apart.
        let (along, across) = if train {
            (seat as f64 * 20.0 + self.dice.within(0.0, 19.0), self.dice.within(-1.2, 1.2))
        } else {
            (seat as f64 * 0.9, self.dice.below(4) as f64 * 0.6 - 0.9)
        };
        let (east, north) = ((to.0.x - from.0.x) / metres, (to.0.y - from.0.y) / metres);
        let inside =
            |stop: Point| stop.moved(-along * east - across * north, -along * north + across * east, 0.0);
        let coach = if train { seat } else { 0 };
        let shared =
            air(7, line.draw(1), (self.making.days_before << 32) | ((departure as u64) << 8) | coach);
        // One waits in the open, where one's seat will stop.
        let spot = inside(from.0).moved(self.dice.within(-2.0, 2.0), self.dice.within(-2.0, 2.0), 0.0);
        self.stand(spot, leaves_ms.max(self.ms), Setting::Way, 0);
        let start_ms = self.ms;
        self.way(inside(to.0), speed, Setting::Transit, shared);
        let at = |ms: f64| self.making.start + ms.min(DAY_MS as f64) as Millis;
        if at(start_ms) < at(self.ms) {
            self.day.rides.push(Ride {
                start: at(start_ms),
                end: at(self.ms),
                stops: (from.1, to.1),
                departure: departure as u64,
                train,
                seat,
            });
        }
    }

    /// All that happens at a place up to an instant.
    fn stay(&mut self, place: &Place, until_ms: f64) {
        let until_ms = until_ms.min(DAY_MS as f64);
        match place {
            Place::Home => self.home(until_ms),
            Place::Desk(desk) if self.person.age == Age::Adult => self.work(desk, until_ms),
            Place::Desk(desk) => self.school(desk, until_ms),
            Place::Venue(venue, group) => self.venue(venue, *group, until_ms),
        }
    }

    fn home(&mut self, until_ms: f64) {
        let person = self.person;
        let air = air(1, person.household, 0);
        let hour = HOUR_MS as f64;
        let (wakes_ms, sleeps_ms) = (self.dice.within(6.2, 7.4) * hour, self.dice.within(21.8, 23.4) * hour);
        if self.ms < wakes_ms {
            self.stand(person.bed(), wakes_ms.min(until_ms), Setting::Home, air);
        }
        while self.ms < until_ms && self.ms < sleeps_ms {
            let next_ms = (self.ms + self.dice.within(15.0, 55.0) * MINUTE_MS).min(until_ms).min(sleeps_ms);
            // Around the table, or somewhere else in the flat.
            let spot = if self.dice.happens(0.45) {
                let (north, east) = (std::f64::consts::TAU * person.member as f64 / 6.0).sin_cos();
                person.flat.moved(0.9 * east, -1.0 + 0.9 * north, 0.0)
            } else {
                person.flat.moved(self.dice.within(-5.0, 5.0), self.dice.within(-3.0, 3.0), 0.0)
            };
            self.stand(spot, next_ms, Setting::Home, air);
        }
        if self.ms < until_ms {
            self.stand(person.bed(), until_ms, Setting::Home, air);
        }
    }

    fn work(&mut self, desk: &Desk, until_ms: f64) {
        let mut common = Dice::new(self.making.of_team(desk).stream(2));
        let meeting_ms = common.within(9.5, 16.5) * HOUR_MS as f64;
        let meets = common.happens(0.6);
        let meeting_end_ms = meeting_ms + common.within(25.0, 60.0) * MINUTE_MS;
        let room_air = air(2, desk.key, desk.team);
        // A floor shares a kitchen.
        let kitchen = Desk { team: desk.team / 16 * 16 + 5, ..*desk }.room().moved(4.5, 3.5, 0.0);
        let kitchen_air = air(3, desk.key, desk.team / 16);
        while self.ms < until_ms {
            if meets && self.ms >= meeting_ms && self.ms < meeting_end_ms && self.dice.happens(0.8) {
                let angle = std::f64::consts::TAU * desk.place as f64 / 8.0;
                let table = desk.room().moved(1.4 * angle.cos(), 1.4 * angle.sin(), 0.0);
                self.stand(table, meeting_end_ms.min(until_ms), Setting::Work, room_air);
                continue;
            }
            let mut next_ms = self.ms + self.dice.within(40.0, 110.0) * MINUTE_MS;
            if meets && self.ms < meeting_ms {
                next_ms = next_ms.min(meeting_ms);
            }
            self.stand(desk.seat(), next_ms.min(until_ms), Setting::Work, room_air);
            if self.ms < until_ms && self.dice.happens(0.6) {
                let spot = kitchen.moved(self.dice.within(-2.0, 2.0), self.dice.within(-2.0, 2.0), 0.0);
                let break_ms = self.ms + self.dice.within(4.0, 15.0) * MINUTE_MS;
                self.stand(spot, break_ms.min(until_ms), Setting::Work, kitchen_air);
            }
        }
    }

    fn school(&mut self, desk: &Desk, until_ms: f64) {
        let room_air = air(2, desk.key, desk.team);
        let lesson_ms = 50.0 * MINUTE_MS;
        while self.ms < until_ms {
            // Lessons begin at the same time for everyone.
            let lesson = (self.ms / lesson_ms).floor();
            let bell_ms = (lesson + 0.8) * lesson_ms;
            if self.ms < bell_ms {
                self.stand(desk.seat(), bell_ms.min(until_ms), Setting::School, room_air);
            }
            if self.ms < until_ms {
                let yard =
                    desk.building.moved(self.dice.within(-20.0, 20.0), self.dice.within(25.0, 50.0), 0.0);
                self.stand(yard, ((lesson + 1.0) * lesson_ms).min(until_ms), Setting::School, 0);
            }
        }
    }

    fn venue(&mut self, venue: &Venue, group: Stream, until_ms: f64) {
        let kind = venue.kind();
        let start_ms = self.ms;
        // Who comes together keeps together, a step or two apart.
        let mut common = Dice::new(group.stream(venue.key()).stream(DAYS + self.making.days_before));
        let floor = common.below(kind.floors);
        let up_m = floor as f64 * 5.0;
        let shared = if kind.setting == Setting::Park { 0 } else { air(4, venue.key(), floor) };
        let reach_m = kind.side_m / 2.0 - 1.0;
        let member = self.person.number % 6;
        let (beside_x, beside_y) = ((member % 3) as f64 * 0.8 - 0.8, (member / 3) as f64 * 0.9 - 0.45);
        let stands_ms = kind.stands_min * MINUTE_MS;
        while self.ms < until_ms {
            // Spots change for all of a group at the same instants.
            let turn = (self.ms / stands_ms).floor();
            let mut spot = Dice::new(
                group.stream(venue.key()).stream(DAYS + self.making.days_before).stream(1 + turn as u64),
            );
            let mut at = |reach_m: f64| spot.within(-reach_m, reach_m);
            let (x, y) = if kind.setting == Setting::Restaurant {
                // Tables stand 2.4 m apart.
                ((at(reach_m) / 2.4).round() * 2.4, (at(reach_m) / 2.4).round() * 2.4)
            } else {
                (at(reach_m), at(reach_m))
            };
            let spot = venue.middle.moved(x + beside_x, y + beside_y, up_m);
            self.stand(spot, ((turn + 1.0) * stands_ms).min(until_ms), kind.setting, shared);
        }
        let at = |ms: f64| self.making.start + ms as Millis;
        if VENUE_KINDS[venue.kind].scanned && start_ms < until_ms {
            self.day.visits.push(Visit { start: at(start_ms), end: at(until_ms), venue: *venue, floor });
        }
    }
}

/// Where somebody is at an instant inside a piece.
pub fn spot_at(piece: &Piece, at: Millis) -> Point {
    if piece.from == piece.to {
        return piece.from;
    }
    piece.from.towards(piece.to, (at - piece.start) as f64 / (piece.end - piece.start) as f64)
}

#[cfg(test)]
mod tests {
    use super::super::people::people;
    use super::*;

    /// Days have no gap and no jump, and nobody is faster than a car on a fast road.
    #[test]
    fn days_are_continuous() {
        let (map, normal) = (Map::new(20_000, Stream::of_seed(1)), Normal::new());
        let people = people(&map, 3, 20_000, Stream::of_seed(2));
        let mut day = Day::default();
        for days_before in 0..9 {
            let making = Making { map: &map, normal: &normal, start: 1_000 * DAY_MS, days_before };
            for person in people.iter().step_by(7) {
                making.day(person, None, &mut day);
                let pieces = &day.pieces;
                assert_eq!((pieces[0].start, pieces[0].from), (making.start, person.bed()));
                let last = pieces[pieces.len() - 1];
                assert_eq!((last.end, last.setting), (making.start + DAY_MS, Setting::Home));
                for pair in pieces.windows(2) {
                    assert_eq!(pair[0].end, pair[1].start);
                    assert_eq!(pair[0].to, pair[1].from);
                }
                let speed = |p: &Piece| p.from.metres_to(p.to) / (p.end - p.start) as f64 * 1_000.0;
                assert!(pieces.iter().all(|p| p.end - p.start < 1_000 || speed(p) < 18.0));
                assert!(day.visits.iter().all(|v| v.start < v.end));
            }
        }
    }

    #[test]
    fn the_isolated_are_alone() {
        let (map, normal) = (Map::new(4_000, Stream::of_seed(1)), Normal::new());
        let people = people(&map, 0, 4_000, Stream::of_seed(2));
        let making = Making { map: &map, normal: &normal, start: 0, days_before: 3 };
        let ill = Illness { onset_at: -DAY_MS, isolated_at: 10 * HOUR_MS };
        let mut day = Day::default();
        making.day(&people[9], Some(&ill), &mut day);
        let isolated: Vec<&Piece> = day.pieces.iter().filter(|p| p.setting == Setting::Isolation).collect();
        assert_eq!((isolated.len(), isolated[0].start, isolated[1].end), (2, ill.isolated_at, DAY_MS));
        assert!(isolated[1].from == isolated[1].to && isolated[0].to == isolated[1].from);
        assert!(day.pieces.iter().all(|p| p.start < ill.isolated_at || p.setting == Setting::Isolation));
    }
}
