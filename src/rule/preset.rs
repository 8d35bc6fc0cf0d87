//! Rules that come with the program; their files in `data/rules/` say where each number comes from.

/// Name and text of each preset.
pub const PRESETS: [(&str, &str); 6] = [
    ("area-1h", include_str!("../../data/rules/area-1h.toml")),
    ("area-4h", include_str!("../../data/rules/area-4h.toml")),
    ("calibrated", include_str!("../../data/rules/calibrated.toml")),
    ("cdc-15min", include_str!("../../data/rules/cdc-15min.toml")),
    ("companion-800m", include_str!("../../data/rules/companion-800m.toml")),
    ("venue-alert", include_str!("../../data/rules/venue-alert.toml")),
];
