//! A server of a test's own.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::binaries;
use crate::process::{RunAs, children, is_running, send, wait_until, wait_until_gone};
use crate::tls;
use crate::url::with_parameter;

/// Whether a server keeps what it acknowledged when the machine fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does, as a server should.
    Full,
    /// It doesn't wait for the disk: for tests of what is written, not of whether it stays.
    None,
}

const USER: &str = "abide";
/// Passwords go the way that they go in production.
const PASSWORD: &str = "abide test";

/// Runs the server and removes what it leaves behind, when the other end of its input is closed: by
/// us, or by the system if this process ends in whatever way. Told to keep them, it only waits for the
/// server, which has to be waited for to be gone.
const KEEPER: &str = r#"
directory=$1
shift
"$@" &
server=$!
echo $server >"$directory/started"
read -r word
[ "$word" = keep ] || kill -QUIT $server
wait $server
[ "$word" = keep ] || rm -rf "$directory"
"#;

/// A PostgreSQL server in a temporary directory. Stopped and removed when this is dropped.
pub struct Server {
    binaries: PathBuf,
    directory: TempDir,
    run_as: RunAs,
    durability: Durability,
    settings: Vec<(String, String)>,
    port: u16,
    /// The shell around the server, while there is one.
    keeper: Option<Child>,
}

/// As many as the tests take that run at a time, which is one for each core: several processes of some.
fn connections() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (40 * cores).max(300)
}

impl Server {
    /// Makes a server and starts it.
    ///
    /// # Panics
    ///
    /// With what is missing, or with the server's log.
    pub fn start(durability: Durability) -> Server {
        Server::start_with(durability, &[])
    }

    /// Like [`Server::start`], with settings as in `postgresql.conf`.
    pub fn start_with(durability: Durability, settings: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(durability);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        server.settings = settings.iter().map(owned).collect();
        server.initialise();
        server.run();
        server
    }

    /// Like [`Server::start`], with a certificate for this host name. The other half of the answer is
    /// the file with the certificate of the authority that signed it, which signs nothing else.
    pub fn start_with_tls(name: &str) -> (Server, PathBuf) {
        let mut server = Server::prepare(Durability::None);
        let files = tls::write(server.directory.path(), name);
        for file in [&files.certificate, &files.key] {
            server.run_as.own(file).expect("the file changes hands");
        }
        let path = |file: &Path| file.display().to_string();
        server.settings = vec![
            ("ssl".to_owned(), "on".to_owned()),
            ("ssl_cert_file".to_owned(), path(&files.certificate)),
            ("ssl_key_file".to_owned(), path(&files.key)),
        ];
        server.initialise();
        server.run();
        (server, files.authority)
    }

    fn prepare(durability: Durability) -> Server {
        let binaries = binaries::find().unwrap_or_else(|problem| panic!("{problem}"));
        let directory = tempfile::Builder::new()
            .prefix("abide-postgres-")
            .tempdir()
            .expect("a temporary directory");
        let run_as = RunAs::of(directory.path()).unwrap_or_else(|problem| panic!("{problem}"));
        run_as
            .own(directory.path())
            .expect("the directory changes hands");
        Server {
            binaries,
            directory,
            run_as,
            durability,
            settings: Vec::new(),
            port: 0,
            keeper: None,
        }
    }

    /// The address of a store in it.
    pub fn url(&self) -> String {
        let password = PASSWORD.replace(' ', "%20");
        let url = format!(
            "postgres://{USER}:{password}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        );
        match self.durability {
            Durability::Full => url,
            Durability::None => with_parameter(&url, "unsafe_durability", "allow"),
        }
    }

    /// The port it listens on. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it like a crash does: all of its processes at once, without a word to anybody.
    pub fn kill(&mut self) {
        let server = self.pid().expect("a server that runs");
        // Held first, so that it starts no further process while the others are listed.
        send("STOP", server);
        let mut processes = children(server);
        processes.push(server);
        for process in &processes {
            send("KILL", *process);
        }
        wait_until_gone(&processes);
        self.leave_keeper();
    }

    /// Stops it in order: connections are cut, everything is written.
    pub fn stop(&mut self) {
        let server = self.pid().expect("a server that runs");
        send("INT", server);
        wait_until_gone(&[server]);
        self.leave_keeper();
    }

    /// Starts it again after [`Server::kill`] or [`Server::stop`], on the same port.
    pub fn restart(&mut self) {
        assert!(self.keeper.is_none(), "it runs already");
        self.spawn().unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Keeps a copy of everything in it, in place of the one before. It must be stopped.
    pub fn keep_copy(&mut self) {
        assert!(self.keeper.is_none(), "it runs");
        std::fs::remove_dir_all(self.copy()).ok();
        copy(&self.data(), &self.copy());
    }

    /// Puts it back to what it was when [`Server::keep_copy`] was called: to its clients it is a standby
    /// that took over without what came after. It must be stopped.
    pub fn go_back(&mut self) {
        assert!(self.keeper.is_none(), "it runs");
        std::fs::remove_dir_all(self.data()).expect("it can be removed");
        copy(&self.copy(), &self.data());
    }

    fn copy(&self) -> PathBuf {
        self.directory.path().join("copy")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// A file that says what process the server is, or was.
    fn started(&self) -> PathBuf {
        self.directory.path().join("started")
    }

    fn initialise(&self) {
        let password = self.directory.path().join("password");
        writeln!(File::create(&password).expect("a file"), "{PASSWORD}").expect("written");
        self.run_as.own(&password).expect("the file changes hands");
        let mut initdb = Command::new(self.binaries.join("initdb"));
        initdb
            .arg("--pgdata")
            .arg(self.data())
            .args(["--username", USER, "--auth", "scram-sha-256", "--pwfile"])
            .arg(&password)
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        self.run_as.apply(&mut initdb);
        let output = initdb.output().expect("initdb runs");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts it on a port that is free. Another process may take that in between: then on another.
    fn run(&mut self) {
        const TRIES: usize = 5;
        for attempt in 1..=TRIES {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            self.port = free.expect("a free port").port();
            match self.spawn() {
                Ok(()) => return,
                Err(problem) if attempt == TRIES => panic!("{problem}"),
                Err(_) => {}
            }
        }
    }

    fn spawn(&mut self) -> Result<(), String> {
        let log = File::create(self.log()).map_err(|error| error.to_string())?;
        let log_again = log.try_clone().map_err(|error| error.to_string())?;
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "sh"])
            .arg(self.directory.path())
            .arg(self.binaries.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-k"])
            .arg(self.directory.path())
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                &format!("max_connections={}", connections()),
            ]);
        if self.durability == Durability::None {
            for setting in [
                "fsync=off",
                "synchronous_commit=off",
                "full_page_writes=off",
            ] {
                keeper.args(["-c", setting]);
            }
        }
        for (name, value) in &self.settings {
            keeper.args(["-c", &format!("{name}={value}")]);
        }
        keeper
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_again);
        // What a terminal sends to its foreground processes is not for the server.
        std::os::unix::process::CommandExt::process_group(&mut keeper, 0);
        self.run_as.apply(&mut keeper);
        // Those of a server that was killed would be taken for the new one's.
        for file in [self.data().join("postmaster.pid"), self.started()] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.to_string());
                }
                _ => {}
            }
        }
        self.keeper = Some(keeper.spawn().map_err(|error| error.to_string())?);
        let mut failed = false;
        wait_until("the start of a server", || {
            let started = std::fs::read_to_string(self.started()).unwrap_or_default();
            failed = started
                .trim()
                .parse()
                .is_ok_and(|process| !is_running(process));
            failed || self.is_ready()
        });
        if failed {
            self.leave_keeper();
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            return Err(format!("PostgreSQL did not start: {log}"));
        }
        Ok(())
    }

    fn status(&self) -> Option<Vec<String>> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        Some(file.lines().map(str::to_owned).collect())
    }

    fn pid(&self) -> Option<u32> {
        self.status()?.first()?.trim().parse().ok()
    }

    /// The last line of its file says how far it is.
    fn is_ready(&self) -> bool {
        let status = self.status();
        status.is_some_and(|lines| lines.get(7).is_some_and(|line| line.trim() == "ready"))
    }

    /// Ends the shell around a server that has ended. The directory stays.
    fn leave_keeper(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let mut input = keeper.stdin.take().expect("it has an input");
            input.write_all(b"keep\n").expect("it reads");
            drop(input);
            keeper.wait().expect("it ends");
        }
    }
}

/// Copies a directory with its owners and rights.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    let copied = copied.expect("there is a cp");
    assert!(copied.success(), "{} was not copied", from.display());
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            // It has removed the directory when it ends.
            if keeper.wait().is_err() && !std::thread::panicking() {
                panic!("the server's shell was lost");
            }
        }
    }
}
