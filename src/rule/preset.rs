//! Rules that come with the program; their files in `data/rules/` say where each number comes from.

/// Name and text of each preset.
pub const PRESETS: [(&str, &str); 4] = [
    ("calibrated", include_str!("../../data/rules/calibrated.toml")),
    ("cdc-15min", include_str!("../../data/rules/cdc-15min.toml")),
    ("companion-800m", include_str!("../../data/rules/companion-800m.toml")),
    ("venue-alert", include_str!("../../data/rules/venue-alert.toml")),
];

/// Presets of the design that need evidence which this version does not weigh, and what that is.
pub const LATER: [(&str, &str); 2] = [("area-4h", "risk areas"), ("area-1h", "risk areas")];
