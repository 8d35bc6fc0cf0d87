//! Feeds, tables, stores and outputs by URL: the same bytes as from a disk, whatever the network does.

mod server;

use copresence::io::storage::objects::{self, Reader};
use copresence::io::storage::{self, Surroundings};
use server::{BUCKET, Server, Troubles};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;

const ANSWERS: [&str; 6] = [
    "candidates.parquet",
    "candidates.csv",
    "exposures.parquet",
    "encounters.parquet",
    "cases.parquet",
    "rejections.parquet",
];

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/office")
}

/// Bytes in no order that can be told, always the same.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn large_objects_go_in_pieces_and_come_as_they_are_wanted() {
    let (server, folder) = (Server::new(Troubles::default()), TempDir::new().expect("a folder"));
    storage::surround(Surroundings { variables: server.variables(), scratch: folder.path().into() });
    let bytes = noise(21_000_001);
    let file = folder.path().join("large");
    std::fs::write(&file, &bytes).expect("a file");
    let url = PathBuf::from(at("in/large"));
    let before = server.requests.load(Ordering::Relaxed);
    objects::upload(vec![(file, url.clone())]).expect("an upload");
    let requests = server.requests.load(Ordering::Relaxed) - before;
    assert!(requests >= 5, "a start, three pieces and an end, not {requests}");
    assert!(std::fs::read(server.bucket().join("in/large")).expect("an object") == bytes);
    let reader = Reader::open(&url, bytes.len() as u64).expect("an object");
    let before = server.requests.load(Ordering::Relaxed);
    let mut state = 11usize;
    for _ in 0..200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (start, length) = ((state >> 20) % bytes.len(), (state >> 10) % 300_000);
        let mut read = vec![0; length];
        let found = reader.read_at(&mut read, start as u64).expect("bytes");
        assert!(read[..found] == bytes[start..(start + length).min(bytes.len())]);
    }
    // From the front to the end takes few requests.
    let random = server.requests.load(Ordering::Relaxed);
    let mut whole = vec![0; bytes.len()];
    for (piece, read) in whole.chunks_mut(8_192).enumerate() {
        assert_eq!(reader.read_at(read, piece as u64 * 8_192).expect("bytes"), read.len());
    }
    assert!(whole == bytes);
    let requests = server.requests.load(Ordering::Relaxed);
    assert!(
        random - before <= 400 && requests - random < 20,
        "{} and {}",
        random - before,
        requests - random
    );
    // Other bytes under the same name are not mixed with those before.
    objects::put(&url, noise(21_000_002).split_off(1)).expect("an object");
    let error = (0..20_000_000).step_by(1 << 20).find_map(|at| reader.read_at(&mut [0; 8], at).err());
    assert!(error.expect("an error").to_string().contains("written anew"));
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn fails_with(self, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "standard error lacks {text:?}:\n{}", self.stderr);
        }
        self
    }
}

fn ran(program: &mut Command, args: &[&str]) -> Ran {
    let done = program.args(args).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

impl Server {
    fn runs(&self, args: &[&str]) -> Ran {
        ran(&mut self.program(), args)
    }

    /// A job over what is in the bucket.
    fn job(&self, folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a job file");
        path.display().to_string()
    }
}

fn answers(folder: &Path) -> Vec<Vec<u8>> {
    ANSWERS.iter().map(|name| std::fs::read(folder.join(name)).expect(name)).collect()
}

/// The office sample in the bucket, its job files, and the answer from the disk.
struct Office {
    server: Server,
    folder: TempDir,
    expected: Vec<Vec<u8>>,
    text: String,
}

impl Office {
    fn new(troubles: Troubles) -> Self {
        let (server, folder) = (Server::new(troubles), TempDir::new().expect("a folder"));
        let text = std::fs::read_to_string(sample().join("job.toml")).expect("the sample");
        for name in ["cases.csv", "scans.parquet"] {
            server.bring(&sample().join(name), &format!("office/in/{name}"));
            std::fs::copy(sample().join(name), folder.path().join(name)).expect("a copy");
        }
        let job = server.job(folder.path(), "here.toml", &text);
        let out = folder.path().join("here");
        let out_text = out.display().to_string();
        server.runs(&["run", &job, "--out", &out_text, "--progress", "none"]).succeeds();
        let expected = answers(&out);
        Office { server, folder, expected, text }
    }

    /// The job with other paths.
    fn job(&self, scans: &str, cases: &str) -> String {
        let text = self.text.replace("\"scans.parquet\"", &format!("\"{scans}\""));
        self.server.job(
            self.folder.path(),
            "job.toml",
            &text.replace("\"cases.csv\"", &format!("\"{cases}\"")),
        )
    }
}

fn at(key: &str) -> String {
    format!("s3://{BUCKET}/{key}")
}

/// Rejections name the files as the job does; the rest is the same.
#[track_caller]
fn same(found: &[Vec<u8>], expected: &[Vec<u8>]) {
    for ((name, found), expected) in ANSWERS.iter().zip(found).zip(expected) {
        assert!(*name == "rejections.parquet" || found == expected, "{name} differs");
    }
}

#[test]
fn feeds_tables_and_outputs_by_url_give_the_same_bytes() {
    let office = Office::new(Troubles::default());
    let server = &office.server;
    for (number, scans) in
        ["office/in/scans.parquet", "office/in", "office/*/*.parquet", "office/**"].iter().enumerate()
    {
        let job = office.job(&at(scans), &at("office/in/cases.csv"));
        let out = at(&format!("out/{number}"));
        let ran =
            server.runs(&["run", &job, "--out", &out, "--progress", "none", "--digest", "full"]).succeeds();
        assert!(ran.stdout.contains(&out), "{}", ran.stdout);
        same(&answers(&server.bucket().join(format!("out/{number}"))), &office.expected);
    }
    let job = office.job(&at("office/in"), &at("office/in/cases.csv"));
    let out = at("out/0");
    server.runs(&["check", &job]).succeeds();
    // An output that is there stays, unless it is to be replaced.
    let refused = server.runs(&["run", &job, "--out", &out, "--progress", "none"]);
    refused.fails_with(&["--out s3://night/out/0", "an earlier output", "--force"]);
    server.runs(&["run", &job, "--out", &out, "--progress", "none", "--force"]).succeeds();
    same(&answers(&server.bucket().join("out/0")), &office.expected);
    // So does what is no output.
    server.bring(&sample().join("job.toml"), "out/0/notes.toml");
    let refused = server.runs(&["run", &job, "--out", &out, "--progress", "none", "--force"]);
    refused.fails_with(&["something that is no output of copresence"]);
    assert!(server.bucket().join("out/0/manifest.json").exists());
    // What an upload that was broken off left is no output.
    for name in ["candidates.parquet", "cases.parquet"] {
        server.bring(&sample().join("cases.csv"), &format!("out/rest/{name}"));
    }
    server.runs(&["run", &job, "--out", &at("out/rest"), "--progress", "none"]).succeeds();
    same(&answers(&server.bucket().join("out/rest")), &office.expected);
    // The evidence of a person is read from there.
    let candidates = String::from_utf8(office.expected[1].clone()).expect("UTF-8");
    let person =
        candidates.lines().nth(1).and_then(|line| line.split(',').next()).expect("a candidate").to_string();
    let there = server.runs(&["explain", &at("out/1"), "--person", &person, "--format", "json"]).succeeds();
    let here = office.folder.path().join("here").display().to_string();
    let here = server.runs(&["explain", &here, "--person", &person, "--format", "json"]).succeeds();
    assert!(there.stdout.len() > 200 && there.stdout == here.stdout);
    assert_eq!(server.scratch(), Vec::<String>::new());
}

#[test]
fn a_network_that_fails_is_tried_again() {
    let office = Office::new(Troubles { busy_every: 4, cut_every: 3, ..Troubles::default() });
    let server = &office.server;
    let job = office.job(&at("office/in"), &at("office/in/cases.csv"));
    for round in 0..3 {
        let (store, out) = (at(&format!("store/{round}")), at(&format!("out/{round}")));
        server.runs(&["run", &job, "--out", &out, "--progress", "none"]).succeeds();
        same(&answers(&server.bucket().join(format!("out/{round}"))), &office.expected);
        server.runs(&["ingest", &job, "--store", &store, "--progress", "none"]).succeeds();
        server
            .runs(&["run", &job, "--store", &store, "--out", &out, "--progress", "none", "--force"])
            .succeeds();
        same(&answers(&server.bucket().join(format!("out/{round}"))), &office.expected);
    }
    assert!(server.requests.load(Ordering::Relaxed) > 100);
}

#[test]
fn what_is_wrong_is_said() {
    let office = Office::new(Troubles::default());
    let server = &office.server;
    let cases = at("office/in/cases.csv");
    let job = office.job(&at("office/in/scan.parquet"), &cases);
    server.runs(&["check", &job]).fails_with(&[
        "feeds[0].path",
        "nothing there",
        "did you mean scans.parquet?",
    ]);
    let job = office.job("s3://nights/office", &cases);
    server.runs(&["check", &job]).fails_with(&["s3://nights/office", "no such bucket"]);
    let job = office.job("s4://night/office", &cases);
    server.runs(&["check", &job]).fails_with(&["no scheme among s3, gs, az and abfss"]);
    let job = office.job(&at("office/*.csv"), &cases);
    server.runs(&["check", &job]).fails_with(&["no match"]);
    let job = office.job(&at("office/in"), &cases);
    let mut other = server.program();
    other.env("AWS_SECRET_ACCESS_KEY", "another");
    ran(&mut other, &["check", &job]).fails_with(&["refuses", "credentials"]);
    let mut nobody = server.program();
    nobody.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("COPRESENCE_RETRY_S", "1");
    ran(&mut nobody, &["check", &job]).fails_with(&[&at("office/in"), "check the endpoint"]);
    let mut nobody = server.program();
    nobody.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("COPRESENCE_RETRY_S", "1");
    let store = at("store");
    ran(&mut nobody, &["store", "list", &store]).fails_with(&["a prepared store", "check the endpoint"]);
    server.runs(&["store", "list", &store]).fails_with(&["a prepared store", "no such object"]);
    // A file that was cut off.
    let scans = std::fs::read(sample().join("scans.parquet")).expect("the sample");
    std::fs::write(server.bucket().join("office/in/cut.parquet"), &scans[..scans.len() / 2])
        .expect("an object");
    server.runs(&["check", &job]).fails_with(&["office/in/cut.parquet", "stops before its footer"]);
}

/// A made-up city of two days in the bucket, as a job of gps pings.
struct City {
    server: Server,
    folder: TempDir,
    job: String,
    parts: Vec<String>,
}

impl City {
    fn new() -> Self {
        let (server, folder) = (Server::new(Troubles::default()), TempDir::new().expect("a folder"));
        let city = at("city");
        let rows = ["--rows", "60000", "--persons", "600", "--cases", "6", "--days", "2", "--order", "none"];
        server.runs(&[&["synth", &city][..], &rows[..]].concat()).succeeds();
        let text = std::fs::read_to_string(server.bucket().join("city/job.toml")).expect("a job file");
        let job = text
            .replace("\"pings\"", "\"s3://night/city/pings\"")
            .replace("\"cases.parquet\"", "\"s3://night/city/cases.parquet\"");
        assert_ne!(job, text);
        let job = server.job(folder.path(), "job.toml", &job);
        let parts = server.objects().into_iter().filter(|name| name.starts_with("city/pings/")).collect();
        City { server, folder, job, parts }
    }

    fn answer(&self, store: Option<&str>) -> Vec<Vec<u8>> {
        let out = self.folder.path().join("out");
        let out_text = out.display().to_string();
        let mut args = vec![
            "run",
            &self.job,
            "--out",
            &out_text,
            "--force",
            "--progress",
            "none",
            "--encounters",
            "all",
        ];
        args.extend(store.iter().flat_map(|store| ["--store", store]));
        self.server.runs(&args).succeeds();
        answers(&out)
    }

    fn ingest(&self, flags: &[&str]) -> Ran {
        let store = at("store");
        self.server
            .runs(&[&["ingest", &self.job, "--store", &store, "--progress", "none"][..], flags].concat())
    }
}

#[test]
fn a_store_of_objects_gives_the_same_bytes() {
    let city = City::new();
    let (server, store) = (&city.server, at("store"));
    assert!(city.parts.len() > 1, "{:?}", city.parts);
    let expected = city.answer(None);
    assert!(expected[2].len() > 2_000, "exposures");
    // Some files come to the store, then others, then the rest.
    let parts: Vec<&[String]> = city.parts.chunks(city.parts.len().div_ceil(3)).collect();
    let away = |part: &String| server.bucket().join(format!("away/{part}"));
    let move_to = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::rename(from, to).expect("a rename");
    };
    for part in parts[1..].iter().copied().flatten() {
        move_to(&server.bucket().join(part), &away(part));
    }
    for (version, parts) in parts.iter().enumerate() {
        for part in parts.iter().filter(|_| version > 0) {
            move_to(&away(part), &server.bucket().join(part));
        }
        let ran = city.ingest(&[]).succeeds();
        assert!(ran.stdout.contains(&format!("{store}: version {}", version + 1)), "{}", ran.stdout);
    }
    assert_eq!(city.answer(Some(&store)), expected);
    let known = city.ingest(&[]).succeeds();
    assert!(known.stdout.contains("files      0 read"), "{}", known.stdout);
    let listed = server.runs(&["store", "list", &store]).succeeds();
    assert!(listed.stdout.contains("60,000") || listed.stdout.contains("gps 20"), "{}", listed.stdout);
    server.runs(&["store", "check", &store]).succeeds();
    // One case, from the store and kept from the first question.
    let cases = ["case", &city.job, "case-0001", "--store", &store, "--format", "json", "--progress", "none"];
    let first = server.runs(&cases);
    let first = if first.code == Some(0) { first } else { panic!("{}", first.stderr) };
    let again = server.runs(&cases).succeeds();
    assert_eq!(first.stdout, again.stdout);
    assert!(server.objects().iter().any(|name| name.starts_with("store/_copresence/cache/v")));
    // What the earlier versions had stays for who reads them, and goes with a purge, which proves it.
    let versions = |server: &Server| {
        let names = server.objects();
        (1..=parts.len()).filter(|v| names.iter().any(|name| name.contains(&format!("-v{v:06}-")))).count()
    };
    assert_eq!(versions(server), parts.len());
    server.runs(&["purge", &store, "--before", "2000-01-01"]).succeeds();
    assert_eq!(versions(server), 1);
    let objects = server.objects();
    assert!(!objects.iter().any(|name| name.starts_with("store/_copresence/cache/")), "{objects:?}");
    let proof = objects.iter().find(|name| name.starts_with("store/_copresence/purged/")).expect("a proof");
    let proof = std::fs::read_to_string(server.bucket().join(proof)).expect("a proof");
    assert!(proof.contains("\"files_are_gone\": true"), "{proof}");
    server.runs(&["store", "check", &store]).succeeds();
    assert_eq!(city.answer(Some(&store)), expected);
    assert_eq!(server.scratch(), Vec::<String>::new());
    assert!(
        !objects.iter().any(|name| name.contains("writer.lock") || name.contains("clock-")),
        "{objects:?}"
    );
}

#[test]
fn two_writers_exclude_each_other() {
    let city = City::new();
    let server = &city.server;
    city.ingest(&[]).succeeds();
    // Somebody on another machine holds the store, and is alive.
    let lock = server.bucket().join("store/_copresence/writer.lock");
    let held = r#"{"machine":"elsewhere","process":7,"renewals":3}"#;
    std::fs::write(&lock, held).expect("a lock");
    let refused = city.ingest(&[]);
    refused.fails_with(&["a store that nobody else is changing", "process 7 on elsewhere", "120 s"]);
    assert_eq!(std::fs::read_to_string(&lock).expect("a lock"), held);
    // Readers need not wait.
    server.runs(&["store", "check", &at("store")]).succeeds();
    // It was heard of last three minutes ago.
    let file = std::fs::File::options().write(true).open(&lock).expect("a lock");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(180);
    file.set_modified(long_ago).expect("a time");
    city.ingest(&[]).succeeds();
    assert!(!lock.exists());
    // A process of this machine that is no more holds nothing; one of another container with the same name may be at work.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an id");
    let space = std::fs::read_link("/proc/self/ns/pid").expect("a space");
    let held = |space: &str| {
        format!(r#"{{"machine":"here","space":"{} {space}","process":4194305,"began":9}}"#, boot.trim())
    };
    std::fs::write(&lock, held("pid:[1]")).expect("a lock");
    city.ingest(&[]).fails_with(&["process 4194305 on here"]);
    std::fs::write(&lock, held(&space.display().to_string())).expect("a lock");
    city.ingest(&[]).succeeds();
}

/// What a writer sent and did not put in force.
fn sent(server: &Server) -> Vec<String> {
    let ours = |name: &String| {
        name.starts_with("store/source=") || name.contains("/guide/") || name.contains("writer.lock")
    };
    server.objects().into_iter().filter(ours).collect()
}

#[test]
fn writers_that_do_not_end_well_take_away_what_they_sent() {
    let city = City::new();
    let server = &city.server;
    let lock = server.bucket().join("store/_copresence/writer.lock");
    server.wait_ms.store(300, Ordering::Relaxed);
    let begun = |sends: &str| {
        let mut ingest = server.program();
        ingest.args(["ingest", &city.job, "--store", &at("store"), "--progress", "none"]);
        let ingest = ingest.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let sends = || sent(server).iter().any(|name| name.starts_with(sends));
        assert!((0..6_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            sends()
        }));
        ingest
    };
    // Somebody else took the store over, and has ended.
    let overtaken = begun("store/source=");
    std::fs::remove_file(&lock).expect("a lock");
    let ended = overtaken.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("changed it meanwhile"), "{said}");
    assert_eq!(sent(server), Vec::<String>::new());
    // Somebody stops it, while it sends, and while it takes the lease.
    for (sends, wait_ms) in [("store/source=", 900), ("store/_copresence/writer.lock", 300)] {
        let stopped = begun(sends);
        server.wait_ms.store(wait_ms, Ordering::Relaxed);
        let killed = Command::new("kill").args(["-TERM", &stopped.id().to_string()]).status().expect("kill");
        assert!(killed.success());
        let ended = stopped.wait_with_output().expect("an end");
        assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(sent(server), Vec::<String>::new());
        server.wait_ms.store(300, Ordering::Relaxed);
    }
    server.wait_ms.store(0, Ordering::Relaxed);
    city.ingest(&[]).succeeds();
    server.runs(&["store", "check", &at("store")]).succeeds();
    assert_eq!(server.scratch(), Vec::<String>::new());
}

#[test]
fn a_server_that_heeds_no_conditions_keeps_no_store() {
    let office = Office::new(Troubles { is_careless: true, ..Troubles::default() });
    let server = &office.server;
    let job = office.job(&at("office/in"), &at("office/in/cases.csv"));
    let ingest = ["ingest", &job, "--store", &at("store"), "--progress", "none"];
    server.runs(&ingest).fails_with(&["whatever If-Match and If-None-Match say", "conditional writes"]);
    assert!(server.objects().iter().all(|name| !name.starts_with("store")));
    server.runs(&["run", &job, "--out", &at("out"), "--progress", "none"]).succeeds();
}

#[test]
fn variables_that_make_no_request_are_said() {
    let office = Office::new(Troubles::default());
    let job = office.job(&at("office/in"), &at("office/in/cases.csv"));
    let wrong = [
        (
            "AWS_ENDPOINT_URL",
            "127.0.0.1:9000",
            "AWS_ENDPOINT_URL is no URL that begins with https:// or http://",
        ),
        ("AWS_ENDPOINT_URL", "minio:9000", "is no URL that begins with"),
        ("AWS_ENDPOINT_URL", "http://", "is no URL of a server"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999", "is no URL of a server"),
        ("AWS_ENDPOINT_URL", "http://a b", "is no URL of a server"),
        ("AWS_ALLOW_HTTP", "false", "AWS_ALLOW_HTTP is not true"),
        ("AWS_ACCESS_KEY_ID", "key\n", "AWS_ACCESS_KEY_ID has a line break"),
        ("COPRESENCE_RETRY_S", "soon", "COPRESENCE_RETRY_S=soon, which is no whole number of seconds"),
    ];
    for (name, value, said) in wrong {
        let mut program = office.server.program();
        program.env(name, value);
        ran(&mut program, &["check", &job]).fails_with(&[said, "docs/cloud.md"]);
    }
}

/// Ingests that are killed; the long run sets more.
const KILLS: u64 = 8;

#[test]
fn ingests_that_are_killed_leave_a_whole_store() {
    let kills = std::env::var("COPRESENCE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let city = City::new();
    let (server, store) = (&city.server, at("store"));
    let expected = city.answer(None);
    let (mut hit, mut state) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    for kill in 0..kills {
        // A new store each time, so that there is something to do.
        drop(std::fs::remove_dir_all(server.bucket().join("store")));
        let mut ingest = server
            .program()
            .args(["ingest", &city.job, "--store", &store, "--progress", "none"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((state >> 33) % 500));
        let was_running = ingest.try_wait().expect("a process").is_none();
        hit += u64::from(was_running);
        ingest.kill().expect("a process");
        ingest.wait().expect("a process");
        // Either nothing is in force, or all of it.
        if server.bucket().join("store/_copresence/catalogue.json").exists() {
            server.runs(&["store", "check", &store]).succeeds();
        }
        city.ingest(&[]).succeeds();
        if kill % 4 == 0 {
            server.runs(&["store", "check", &store]).succeeds();
            assert_eq!(city.answer(Some(&store)), expected);
        }
    }
    assert!(hit * 4 > kills, "{hit} of {kills} were still running");
    assert_eq!(server.scratch(), Vec::<String>::new());
}
