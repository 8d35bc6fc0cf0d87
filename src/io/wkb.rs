//! Polygons from well-known binary (OGC 06-103r4, 8.2; PostGIS's marks for Z, M and SRID too). Counts are held against the
//! bytes that are there, so that damaged ones are an error and no demand for memory.

/// The rings of each polygon: longitude, latitude.
pub type Polygons = Vec<Vec<Vec<(f64, f64)>>>;

const POLYGON: u32 = 3;
const MULTI_POLYGON: u32 = 6;
/// PostGIS's marks.
const HAS_Z: u32 = 0x8000_0000;
const HAS_M: u32 = 0x4000_0000;
const HAS_SRID: u32 = 0x2000_0000;
/// The number of WGS84 in the EPSG's list.
const WGS84: u32 = 4326;

/// Bytes that are not read yet.
struct Reader<'a> {
    bytes: &'a [u8],
    big: bool,
}

/// Reads a polygon or multipolygon, or says what is there instead.
pub fn polygons(bytes: &[u8]) -> Result<Polygons, String> {
    let mut reader = Reader { bytes, big: false };
    let mut polygons = Vec::new();
    let (kind, width) = reader.head()?;
    match kind {
        POLYGON => polygons.push(reader.polygon(width)?),
        MULTI_POLYGON => {
            // A polygon has nine bytes or more.
            for _ in 0..reader.count(9)? {
                let (kind, width) = reader.head()?;
                if kind != POLYGON {
                    return Err(format!("{} among polygons", name(kind)));
                }
                polygons.push(reader.polygon(width)?);
            }
        }
        kind => return Err(name(kind)),
    }
    match reader.bytes.len() {
        0 => Ok(polygons),
        more => Err(format!("WKB with {more} bytes after its end")),
    }
}

fn name(kind: u32) -> String {
    match kind {
        1 | 4 => "points".into(),
        2 | 5 => "lines".into(),
        7 => "a collection of geometries".into(),
        other => format!("WKB of the unknown type {other}"),
    }
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) =
            self.bytes.split_first_chunk::<N>().ok_or_else(|| "WKB that ends too early".to_string())?;
        self.bytes = rest;
        Ok(*head)
    }

    fn int(&mut self) -> Result<u32, String> {
        let bytes = self.take()?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn float(&mut self) -> Result<f64, String> {
        let bytes = self.take()?;
        Ok(if self.big { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) })
    }

    /// How many things of so many bytes, or more, each.
    fn count(&mut self, bytes: usize) -> Result<usize, String> {
        let count = self.int()? as usize;
        if count.saturating_mul(bytes) > self.bytes.len() {
            return Err(format!("WKB that announces {count} parts in {} bytes", self.bytes.len()));
        }
        Ok(count)
    }

    /// Byte order and type of a geometry: the type without marks, and how many numbers a corner has.
    fn head(&mut self) -> Result<(u32, usize), String> {
        self.big = match self.take::<1>()? {
            [0] => true,
            [1] => false,
            [other] => return Err(format!("bytes that are no WKB: byte order {other}")),
        };
        let code = self.int()?;
        if code & HAS_SRID != 0 {
            let srid = self.int()?;
            if srid != WGS84 {
                return Err(format!("the reference system {srid}, which is not WGS84 (4326)"));
            }
        }
        let plain = code & !(HAS_Z | HAS_M | HAS_SRID);
        // ISO adds 1000 for Z, 2000 for M, 3000 for both.
        let iso = [0, 1, 1, 2].get(plain as usize / 1_000).copied().unwrap_or(0);
        let marked = usize::from(code & HAS_Z != 0) + usize::from(code & HAS_M != 0);
        Ok((if plain < 4_000 { plain % 1_000 } else { plain }, 2 + iso.max(marked)))
    }

    fn polygon(&mut self, width: usize) -> Result<Vec<Vec<(f64, f64)>>, String> {
        let mut rings = Vec::new();
        for _ in 0..self.count(4)? {
            let mut ring = Vec::new();
            for _ in 0..self.count(width * 8)? {
                ring.push((self.float()?, self.float()?));
                for _ in 2..width {
                    self.float()?;
                }
            }
            rings.push(ring);
        }
        Ok(rings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A triangle of one polygon, its type with these marks and each corner with so many numbers.
    fn triangle(code: u32, srid: Option<u32>, width: usize) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend(code.to_le_bytes());
        bytes.extend(srid.iter().flat_map(|srid| srid.to_le_bytes()));
        bytes.extend([1u32, 4].map(u32::to_le_bytes).concat());
        for (lon, lat) in [(0.0, 1.0), (2.0, 1.0), (2.0, 3.0), (0.0, 1.0)] {
            bytes.extend([lon, lat, 9.0, 9.0][..width].iter().flat_map(|n: &f64| n.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn every_dialect() {
        let ring = vec![vec![vec![(0.0, 1.0), (2.0, 1.0), (2.0, 3.0), (0.0, 1.0)]]];
        for (code, srid, width) in [
            (3, None, 2),
            (1_003, None, 3),
            (2_003, None, 3),
            (3_003, None, 4),
            (3 | HAS_Z, None, 3),
            (3 | HAS_SRID, Some(4326), 2),
            (3 | HAS_Z | HAS_M | HAS_SRID, Some(4326), 4),
        ] {
            assert_eq!(polygons(&triangle(code, srid, width)), Ok(ring.clone()), "{code:x}");
        }
        assert!(polygons(&triangle(3 | HAS_SRID, Some(3857), 2)).is_err_and(|why| why.contains("3857")));
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let good = triangle(3, None, 2);
        for end in 0..good.len() {
            assert!(polygons(&good[..end]).is_err(), "{end} bytes");
        }
        assert!(
            polygons(&[good.clone(), good.clone()].concat()).is_err_and(|why| why.contains("after its end"))
        );
        for at in [5, 9] {
            let mut huge = good.clone();
            huge[at..at + 4].fill(0xff);
            assert!(polygons(&huge).is_err_and(|why| why.contains("announces")), "{at}");
        }
        let mut order = good;
        order[0] = 2;
        assert!(polygons(&order).is_err());
        assert_eq!(polygons(&[1, 1, 0, 0, 0]), Err("points".into()));
    }
}
