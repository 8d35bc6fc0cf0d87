//! A server that speaks S3 on the loopback (s3s-fs), and the troubles that a network has.

use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const BUCKET: &str = "night";

/// A server with one bucket, as long as this lives.
pub struct Server {
    folder: TempDir,
    address: SocketAddr,
    pub requests: Arc<AtomicU64>,
    /// How long each answer takes, ms.
    pub wait_ms: Arc<AtomicU64>,
    is_signed: bool,
    _runtime: Runtime,
}

/// How often the server, or the network before it, fails: every so many requests or connections; never at 0.
#[derive(Clone, Copy, Default)]
pub struct Troubles {
    /// 503 in place of an answer.
    pub busy_every: u64,
    /// The connection ends in the middle of what is answered.
    pub cut_every: u64,
    /// Writes are done whatever their conditions say.
    pub is_careless: bool,
}

impl Server {
    pub fn new(troubles: Troubles) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let runtime = Runtime::new().expect("a runtime");
        let files = s3s_fs::FileSystem::new(folder.path()).expect("a folder of buckets");
        let mut builder = S3ServiceBuilder::new(files);
        // What is signed cannot be changed on its way.
        if !troubles.is_careless {
            builder.set_auth(SimpleAuth::from_single("key", "secret"));
        }
        let (service, requests) = (builder.build(), Arc::new(AtomicU64::new(0)));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (counted, wait_ms) = (requests.clone(), Arc::new(AtomicU64::new(0)));
        let waits_ms = wait_ms.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).expect("a socket");
                let (service, counted, waits_ms) = (service.clone(), counted.clone(), waits_ms.clone());
                let answers = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                    let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
                    if troubles.is_careless {
                        request.headers_mut().remove("if-match");
                        request.headers_mut().remove("if-none-match");
                    }
                    let answer = Service::call(&service, request);
                    let wait = Duration::from_millis(waits_ms.load(Ordering::Relaxed));
                    async move {
                        tokio::time::sleep(wait).await;
                        if troubles.busy_every > 0 && number.is_multiple_of(troubles.busy_every) {
                            let mut busy = http::Response::new(s3s::Body::from("busy".to_string()));
                            *busy.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                            return Ok(busy);
                        }
                        answer.await
                    }
                });
                tokio::spawn(async move {
                    // A client that goes away is no trouble of the server's.
                    drop(
                        Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(socket), answers)
                            .await,
                    );
                });
            }
        });
        let address = if troubles.cut_every > 0 { cutting(address, troubles.cut_every) } else { address };
        let is_signed = !troubles.is_careless;
        Server { folder, address, requests, wait_ms, is_signed, _runtime: runtime }
    }

    /// Where the bucket's objects are on the disk.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Puts a file into the bucket.
    pub fn bring(&self, from: &Path, key: &str) {
        let to = self.bucket().join(key);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(from, to).expect("a copy");
    }

    /// The program, which finds the server by its environment.
    pub fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_copresence-cloud"));
        program.envs(self.variables()).env("TMPDIR", self.folder.path());
        program
    }

    /// What the environment says of the server.
    pub fn variables(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SKIP_SIGNATURE", if self.is_signed { "false" } else { "true" }),
        ];
        variables.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    /// The objects of the bucket, sorted.
    pub fn objects(&self) -> Vec<String> {
        let mut folders = vec![self.bucket()];
        let mut names = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(self.bucket()).expect("below").display().to_string());
                }
            }
        }
        names.sort();
        names
    }

    /// What is left of what was on its way to a URL.
    pub fn scratch(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).expect("a folder").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".copresence-")).collect()
    }
}

/// Stands before a server and ends every so many connections in the middle of an answer.
fn cutting(server: SocketAddr, every: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut number = 0u64;
        while let Ok((client, _)) = listener.accept() {
            number += 1;
            let Ok(behind) = TcpStream::connect(server) else { continue };
            [&client, &behind].into_iter().for_each(|socket| socket.set_nodelay(true).expect("a socket"));
            let most = if number.is_multiple_of(every) { 30_000 } else { u64::MAX };
            let (up, down) = (client.try_clone().expect("a socket"), behind.try_clone().expect("a socket"));
            std::thread::spawn(move || pour(up, behind, u64::MAX));
            std::thread::spawn(move || pour(down, client, most));
        }
    });
    address
}

fn pour(mut from: TcpStream, mut to: TcpStream, most: u64) {
    let (mut buffer, mut poured) = (vec![0; 1 << 14], 0);
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || poured + read as u64 > most || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        poured += read as u64;
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}
