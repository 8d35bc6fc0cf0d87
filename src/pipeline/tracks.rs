//! Rows in the order of time on their way to the tracks of their persons, part by part.

use crate::error::Result;
use crate::person::{PersonColumn, PersonId, PersonKind, PersonRef};
use crate::ping::{Mark, Marked, PingColumns, Pings};
use crate::stay::{Stay, StayColumns};
use crate::time::Millis;
use crate::track::many::{self, Row};
use crate::track::{Track, TrackRule};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use hashbrown::HashTable;

/// Rows that go to a part, and which of them are marked.
pub enum Sent {
    /// Where pings just follow one another.
    Rows(SentRows),
    /// All columns.
    Columns(Box<PingColumns>, Vec<Mark>),
}

/// Rows that gather near the cores before they go where a part's rows are, which is far, all at once.
const NEAR: usize = 16;

/// Rows with what their tracks need of them.
pub struct SentRows {
    rows: Vec<Row>,
    /// More of them, between [`Sent::open`] and [`Sent::close`].
    near: Vec<Row>,
    /// Persons that are no integers, row by row.
    names: Option<PersonColumn>,
    /// The latest of their instants.
    last: Millis,
    /// Whether they are in the order of time.
    ordered: bool,
}

impl SentRows {
    #[inline(always)]
    fn push(&mut self, row: Row, person: PersonRef<'_>) {
        self.ordered &= row.time() >= self.last;
        self.last = self.last.max(row.time());
        self.near.push(row);
        if self.near.len() == NEAR {
            self.settle();
        }
        if let Some(names) = &mut self.names {
            names.push(person);
        }
    }

    fn settle(&mut self) {
        self.rows.extend_from_slice(&self.near);
        self.near.clear();
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.names.iter_mut().for_each(PersonColumn::clear);
        (self.last, self.ordered) = (Millis::MIN, true);
    }
}

impl Sent {
    /// Makes ready for rows.
    pub fn open(&mut self) {
        if let Sent::Rows(sent) = self {
            sent.near.reserve_exact(NEAR);
        }
    }

    /// No more rows come until they are followed.
    pub fn close(&mut self) {
        if let Sent::Rows(sent) = self {
            sent.settle();
            sent.near = Vec::new();
        }
    }

    /// Adds a row of a batch, with its person's spread and its mark.
    #[inline(always)]
    pub fn push(&mut self, pings: &Pings<'_>, spread: u64, row: Marked) {
        let (at, mark) = (row.row() as usize, row.mark());
        match self {
            Sent::Rows(sent) => sent.push(Row::new(pings, at, spread, mark), pings.persons.at(at)),
            Sent::Columns(columns, marks) => {
                columns.extend(pings, &[row.row()]);
                marks.push(mark);
            }
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Sent::Rows(sent) => sent.rows.len(),
            Sent::Columns(columns, _) => columns.len(),
        }
    }
}

/// One person with the track as far as it has come.
type Open = (PersonId, Track);

/// The tracks of a part's persons.
pub enum Tracks {
    /// Where pings just follow one another.
    Many(many::Tracks),
    /// By any rule.
    Each(HashTable<Open>),
}

impl Tracks {
    /// None yet.
    pub fn new(rule: &TrackRule<'_>) -> Self {
        if many::Tracks::suit(rule) {
            Tracks::Many(many::Tracks::default())
        } else {
            Tracks::Each(HashTable::new())
        }
    }

    /// No rows yet for these tracks.
    pub fn sends(&self, schema: &SchemaRef, kind: PersonKind) -> Sent {
        match self {
            Tracks::Many(_) => {
                let names = kind != PersonKind::Integer;
                let names = names.then(|| PersonColumn::new(schema.field(0).data_type()));
                Sent::Rows(SentRows {
                    rows: Vec::new(),
                    near: Vec::new(),
                    names,
                    last: Millis::MIN,
                    ordered: true,
                })
            }
            Tracks::Each(_) => Sent::Columns(Box::new(PingColumns::new(schema)), Vec::new()),
        }
    }

    /// Lets the tracks follow rows up to an instant `to`; all that come later are not earlier than it. The rows
    /// are gone then, but for their room.
    pub fn follow(
        &mut self,
        sent: Vec<&mut Sent>,
        to: Millis,
        rule: &mut TrackRule<'_>,
        out: &mut StayColumns,
    ) -> Result<()> {
        match self {
            Tracks::Many(tracks) => follow_rows(tracks, sent, rule, out),
            Tracks::Each(tracks) => {
                follow_columns(tracks, sent, rule, out)?;
                tracks.retain(|(person, track)| {
                    track.settle(rule, &mut |stay| out.push(person.as_ref(), stay));
                    let open = track.is_open(to, rule);
                    if !open {
                        track.finish(rule, &mut |stay| out.push(person.as_ref(), stay));
                    }
                    open
                });
                Ok(())
            }
        }
    }

    /// Ends all tracks.
    pub fn finish(&mut self, rule: &mut TrackRule<'_>, out: &mut StayColumns) {
        match self {
            Tracks::Many(tracks) => tracks.finish(rule, &mut |person, stay| out.push(person, stay)),
            Tracks::Each(tracks) => {
                for (person, track) in tracks.iter_mut() {
                    track.finish(rule, &mut |stay| out.push(person.as_ref(), stay));
                }
            }
        }
    }
}

fn follow_rows(
    tracks: &mut many::Tracks,
    sent: Vec<&mut Sent>,
    rule: &mut TrackRule<'_>,
    out: &mut StayColumns,
) -> Result<()> {
    let chunks = || {
        sent.iter().filter_map(|sent| match &**sent {
            Sent::Rows(sent) => Some(sent),
            Sent::Columns(..) => None,
        })
    };
    let take = &mut |person: PersonRef<'_>, stay: &Stay| out.push(person, stay);
    let mut last = Millis::MIN;
    let ordered = chunks().all(|sent| {
        let follows = sent.rows.first().is_none_or(|first| last <= first.time());
        last = last.max(sent.last);
        sent.ordered && follows
    });
    if ordered {
        chunks().for_each(|sent| tracks.follow(&sent.rows, sent.names.as_ref(), rule, take));
    } else {
        // Files overlap in time.
        let chunks: Vec<_> = chunks().collect();
        let mut order: Vec<(Millis, usize, usize)> = Vec::new();
        for (chunk, sent) in chunks.iter().enumerate() {
            order.extend(sent.rows.iter().enumerate().map(|(at, row)| (row.time(), chunk, at)));
        }
        order.sort_unstable();
        let all: Vec<Row> = order.iter().map(|(_, chunk, at)| chunks[*chunk].rows[*at]).collect();
        let mut all_names = PersonColumn::new(&DataType::Binary);
        for (_, chunk, at) in &order {
            chunks[*chunk].names.as_ref().inspect(|names| all_names.push(names.at(*at)));
        }
        let named = chunks.iter().any(|sent| sent.names.is_some());
        tracks.follow(&all, named.then_some(&all_names), rule, take);
    }
    for sent in sent {
        if let Sent::Rows(rows) = sent {
            rows.clear();
        }
    }
    Ok(())
}

fn follow_columns(
    tracks: &mut HashTable<Open>,
    sent: Vec<&mut Sent>,
    rule: &mut TrackRule<'_>,
    out: &mut StayColumns,
) -> Result<()> {
    let mut chunks: Vec<(RecordBatch, Vec<Mark>)> = Vec::new();
    for sent in sent {
        let Sent::Columns(columns, marks) = sent else { continue };
        let none = columns.like();
        let rows = std::mem::replace(&mut **columns, none);
        chunks.push((rows.finish().map_err(super::too_large)?, std::mem::take(marks)));
    }
    let views: Vec<(Pings<'_>, &Vec<Mark>)> = chunks.iter().map(|(b, marks)| (Pings::of(b), marks)).collect();
    // Each person's rows one after the other, so that a track is fetched once; a person's are in the order
    // of time, also where files overlap in it.
    let mut rows: Vec<(u32, Millis, u32, u32)> = Vec::new();
    for (chunk, (view, _)) in (0u32..).zip(&views) {
        rows.extend((0u32..).zip(view.times).map(|(row, time)| {
            let spread = view.persons.at(row as usize).spread() as u32;
            (spread, *time, chunk, row)
        }));
    }
    rows.sort_unstable();
    for (_, _, chunk, row) in rows {
        let (view, marks) = &views[chunk as usize];
        let person = view.persons.at(row as usize);
        let track = track_of(tracks, person);
        let mut out = |stay: &Stay| out.push(person, stay);
        track.push(view.at(row as usize), marks[row as usize] != Mark::None, rule, &mut out);
    }
    Ok(())
}

fn track_of<'t>(tracks: &'t mut HashTable<Open>, person: PersonRef<'_>) -> &'t mut Track {
    let entry = tracks.entry(
        person.spread(),
        |(known, _)| known.as_ref() == person,
        |(known, _)| known.as_ref().spread(),
    );
    &mut entry.or_insert_with(|| (person.to_id(), Track::default())).into_mut().1
}
