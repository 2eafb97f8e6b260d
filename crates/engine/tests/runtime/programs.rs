//! Random programs of joins, races and loops of signals, sleeps and steps, of which some run for
//! long and some futures are kept for later, whose processes end at random points: by shutting down,
//! by being cut off, or like a crash that leaves everything as it is. Every signal is taken once, in the order of its mailbox, and every replay goes as far as it
//! goes the way the last run went.
//!
//! A failure names its seed; `ABIDE_PROGRAM=seed` runs that one program alone, and
//! `ABIDE_PROGRAMS=count` so many.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use abide::authoring::WorkflowSpec;
use abide::{Clock, Engine, Run, TaskError, TaskHandle, VirtualClock};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::common::{Home, Player, begin, function, history};

const PROGRAMS: u64 = 12;
const MAILBOXES: [&str; 2] = ["a", "b"];
const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(1);
/// Time that passes between two looks at the store.
const A_MOMENT: Duration = Duration::from_millis(5);

/// What a program is made of.
#[derive(Debug)]
enum Part {
    Step,
    /// A step whose body runs for so many hours, or only until others have had a few turns.
    Long(u32),
    Sleep(u32),
    Signal(&'static str),
    Then(Vec<Part>),
    Join(Vec<Part>),
    Race(Vec<Part>),
    Kept(Box<Kept>),
    Repeat(u32, Box<Part>),
}

/// A part that is begun beside another and loses, perhaps; then nobody asks for it during a third,
/// after which it is awaited or dropped.
#[derive(Debug)]
struct Kept {
    part: Part,
    beside: Part,
    meanwhile: Part,
    awaited: bool,
}

/// A small generator: the same numbers for the same seed, everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn mailbox(&mut self) -> &'static str {
        MAILBOXES[self.below(2) as usize]
    }

    fn part(&mut self, depth: u32) -> Part {
        let kinds = if depth == 0 { 8 } else { 16 };
        match self.below(kinds) {
            0 => Part::Step,
            1 | 2 => Part::Long(self.below(3) as u32),
            3 | 4 => Part::Sleep(self.below(3) as u32),
            5..=7 => Part::Signal(self.mailbox()),
            8 => Part::Then(self.parts(depth - 1)),
            9 | 10 => Part::Join(self.parts(depth - 1)),
            11..=13 => Part::Race(self.parts(depth - 1)),
            14 => Part::Kept(Box::new(Kept {
                part: self.part(depth - 1),
                beside: self.part(depth - 1),
                meanwhile: self.part(depth - 1),
                awaited: self.below(2) == 0,
            })),
            _ => Part::Repeat(2 + self.below(2) as u32, Box::new(self.part(depth - 1))),
        }
    }

    fn parts(&mut self, depth: u32) -> Vec<Part> {
        (0..2 + self.below(2)).map(|_| self.part(depth)).collect()
    }
}

impl Part {
    /// The most signals of a mailbox that it takes.
    fn most_of(&self, mailbox: &str) -> u32 {
        match self {
            Part::Step | Part::Long(_) | Part::Sleep(_) => 0,
            Part::Signal(name) => u32::from(*name == mailbox),
            Part::Then(parts) | Part::Join(parts) | Part::Race(parts) => {
                parts.iter().map(|part| part.most_of(mailbox)).sum()
            }
            Part::Kept(kept) => {
                let parts = [&kept.part, &kept.beside, &kept.meanwhile];
                parts.into_iter().map(|part| part.most_of(mailbox)).sum()
            }
            Part::Repeat(times, part) => times * part.most_of(mailbox),
        }
    }
}

impl Part {
    /// Whether it keeps futures for later: they have the signals that were there when they were asked
    /// for, so that they are taken in another order.
    fn keeps(&self) -> bool {
        match self {
            Part::Step | Part::Long(_) | Part::Sleep(_) | Part::Signal(_) => false,
            Part::Then(parts) | Part::Join(parts) | Part::Race(parts) => {
                parts.iter().any(Part::keeps)
            }
            Part::Kept(_) => true,
            Part::Repeat(_, part) => part.keeps(),
        }
    }
}

type Branch<'a> = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send + 'a>>;

/// One run of a program: what it sees, in order.
struct Watch {
    handle: TaskHandle,
    seen: Arc<Mutex<Vec<Value>>>,
    bodies: Arc<AtomicU32>,
    clock: VirtualClock,
}

/// Branches of a race are begun in their order, so that their operations get the same numbers, and
/// then asked in an order that no replay repeats, as `select!` asks them.
static TURN: AtomicUsize = AtomicUsize::new(0);

impl Watch {
    fn saw(&self, what: Value) {
        self.seen.lock().expect("no test panics with it").push(what);
    }

    fn run<'a>(&'a self, part: &'a Part) -> Branch<'a> {
        Box::pin(async move {
            match part {
                Part::Step => {
                    let bodies = &self.bodies;
                    let body = async || {
                        tokio::task::yield_now().await;
                        Ok::<_, TaskError>(bodies.fetch_add(1, Ordering::SeqCst))
                    };
                    let result: u32 = self.handle.step("step", body).await?;
                    self.saw(json!({ "step": result }));
                }
                Part::Long(hours) => {
                    let bodies = &self.bodies;
                    let body = async || {
                        match hours {
                            0 => {
                                for _ in 0..bodies.load(Ordering::SeqCst) % 50 {
                                    tokio::task::yield_now().await;
                                }
                            }
                            _ => self.clock.sleep(*hours * HOUR).await,
                        }
                        Ok::<_, TaskError>(bodies.fetch_add(1, Ordering::SeqCst))
                    };
                    let result: u32 = self.handle.step("long", body).await?;
                    self.saw(json!({ "long": result }));
                }
                Part::Sleep(hours) => {
                    self.handle.sleep(*hours * HOUR).await?;
                    self.saw(json!({ "slept": hours }));
                }
                Part::Signal(name) => {
                    let number: u32 = self.handle.signal(name).await?;
                    self.saw(json!({ *name: number }));
                }
                Part::Then(parts) => {
                    for part in parts {
                        self.run(part).await?;
                    }
                }
                Part::Join(parts) => {
                    join(parts.iter().map(|part| self.run(part)).collect()).await?
                }
                Part::Race(parts) => {
                    let winner = race(parts.iter().map(|part| self.run(part)).collect()).await?;
                    self.saw(json!({ "won": winner }));
                }
                Part::Kept(kept) => {
                    let mut part = Some(self.run(&kept.part));
                    if race(vec![
                        Box::pin(async {
                            let begun = part.as_mut().expect("it was not awaited yet");
                            begun.await
                        }),
                        self.run(&kept.beside),
                    ])
                    .await?
                        == 0
                    {
                        part = None;
                    }
                    self.run(&kept.meanwhile).await?;
                    if let Some(part) = part.take_if(|_| kept.awaited) {
                        part.await?;
                        self.saw(json!("kept"));
                    }
                }
                Part::Repeat(times, part) => {
                    for _ in 0..*times {
                        self.run(part).await?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Takes what is left in a mailbox.
    async fn drain(&self, name: &'static str) -> Result<(), TaskError> {
        loop {
            // If both are over, the first that was built is the first that is answered.
            let signal = self.handle.signal::<u32>(name);
            let nothing_is_left = self.handle.sleep(Duration::ZERO);
            tokio::select! {
                number = signal => self.saw(json!({ name: number? })),
                slept = nothing_is_left => return slept,
            }
        }
    }
}

async fn join(mut branches: Vec<Branch<'_>>) -> Result<(), TaskError> {
    poll_fn(|cx| {
        let mut failed = None;
        branches.retain_mut(|branch| match branch.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                failed = failed.take().or(ended.err());
                false
            }
        });
        match failed {
            Some(error) => Poll::Ready(Err(error)),
            None if branches.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

async fn race(mut branches: Vec<Branch<'_>>) -> Result<usize, TaskError> {
    let mut begun = false;
    poll_fn(|cx| {
        let first = match std::mem::replace(&mut begun, true) {
            true => TURN.fetch_add(1, Ordering::SeqCst),
            false => 0,
        };
        for at in 0..branches.len() {
            let at = (first + at) % branches.len();
            if let Poll::Ready(ended) = branches[at].as_mut().poll(cx) {
                return Poll::Ready(ended.map(|()| at));
            }
        }
        Poll::Pending
    })
    .await
}

/// What every run of the program has seen, the last run last.
type Runs = Arc<Mutex<Vec<Arc<Mutex<Vec<Value>>>>>>;

fn workflow(program: &Arc<Part>, clock: &VirtualClock, runs: &Runs) -> WorkflowSpec {
    let (program, runs, bodies) = (Arc::clone(program), Arc::clone(runs), Arc::default());
    let clock = clock.clone();
    function("program", move |handle: TaskHandle| {
        let (program, seen) = (Arc::clone(&program), Arc::default());
        runs.lock()
            .expect("no test panics with it")
            .push(Arc::clone(&seen));
        let bodies = Arc::clone(&bodies);
        let watch = Watch {
            handle,
            seen,
            bodies,
            clock: clock.clone(),
        };
        async move {
            watch.run(&program).await?;
            let () = watch.handle.signal("end").await?;
            for name in MAILBOXES {
                watch.drain(name).await?;
            }
            Ok::<_, TaskError>(())
        }
    })
}

/// A process: an engine and the threads it runs on.
struct Process {
    engine: Engine,
    threads: Runtime,
}

impl Process {
    async fn start(
        home: &Home,
        clock: &VirtualClock,
        parked: usize,
        workflow: WorkflowSpec,
    ) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread();
        let threads = { threads }.worker_threads(1).enable_all().build();
        let threads = threads.expect("threads");
        let engine = home.engine().clock(clock.clone()).max_parked_tasks(parked);
        let engine = engine.max_crashes(1000).lease(LEASE);
        let engine = threads.spawn(engine.register_spec(workflow).start());
        let engine = engine.await.expect("no panic").expect("starts");
        Process { engine, threads }
    }

    async fn end(self, how: u64, clock: &VirtualClock) {
        match how {
            0 => self.engine.shutdown().await,
            // What runs is cut off and given back.
            1 => drop(self.engine),
            // Everything stops where it is, and nothing is told to the store: the lease must end.
            _ => clock.advance(2 * LEASE),
        }
        self.threads.shutdown_background();
    }
}

/// Sends what a program may take, the last of it when it is told to end, a signal at a time.
struct Mail(Vec<(&'static str, Value)>);

impl Mail {
    fn of(program: &Part, chance: &mut Chance) -> Mail {
        let mut left = MAILBOXES.map(|name| (name, 1..=program.most_of(name) + 2));
        let mut all = Vec::new();
        loop {
            let at = chance.below(2) as usize;
            let at = if left[at].1.is_empty() { 1 - at } else { at };
            let (name, numbers) = &mut left[at];
            match numbers.next() {
                Some(number) => all.push((*name, json!(number))),
                None => break,
            }
        }
        all.push(("end", json!(null)));
        all.reverse();
        Mail(all)
    }

    async fn send(&mut self, engine: &Engine) {
        if let Some((name, payload)) = self.0.pop() {
            let sent = engine.signal("program", name, &payload).await;
            sent.expect("it is live");
        }
    }
}

/// Until the run has ended, or until so much has happened to it.
async fn watch(
    engine: &Engine,
    clock: &VirtualClock,
    mail: &mut Mail,
    events: u64,
    slow: u64,
) -> bool {
    // It keeps its process's files open, so it goes with the process.
    let run = begin(engine, "program").await;
    let before = history(engine, run.id()).await.len() as u64;
    let mut looks = 0;
    loop {
        if looks % slow == 0 {
            mail.send(engine).await;
        }
        looks += 1;
        let seen = history(engine, run.id()).await;
        if seen
            .iter()
            .any(|event| event.kind.starts_with("execution.") && event.to == "Completed")
        {
            return true;
        }
        if seen.len() as u64 >= before + events && events > 0 {
            return false;
        }
        // Leases of processes that died end by the engine's clock.
        clock.advance(A_MOMENT);
        tokio::task::yield_now().await;
    }
}

async fn check(seed: u64, parked: usize) {
    let mut chance = Chance(seed.wrapping_mul(2654435761).wrapping_add(17));
    chance.below(2);
    let program = Arc::new(Part::Then(vec![chance.part(3), chance.part(2)]));
    let mut mail = Mail::of(&program, &mut chance);
    println!("seed {seed}, at most {parked} parked: {program:?}");

    let (home, clock, runs) = (Home::new(), VirtualClock::new(), Runs::default());
    let start = || Process::start(&home, &clock, parked, workflow(&program, &clock, &runs));
    let _player = Player::of(&clock);
    let mut process = start().await;
    for crash in 0.. {
        let events = if crash < 5 { 1 + chance.below(4) } else { 0 };
        let slow = 1 + chance.below(6);
        if watch(&process.engine, &clock, &mut mail, events, slow).await {
            break;
        }
        process.end(chance.below(3), &clock).await;
        process = start().await;
    }
    let run: Run<Value> = begin(&process.engine, "program").await;
    run.result().await.expect("completes");
    process.end(0, &clock).await;

    let runs = runs.lock().expect("no test panics with it");
    let seen: Vec<Vec<Value>> = runs
        .iter()
        .map(|seen| seen.lock().expect("no test panics with it").clone())
        .collect();
    let last = seen.last().expect("it ran");
    for run in &seen {
        assert!(last.starts_with(run), "seed {seed}: {run:?} then {last:?}");
    }
    for name in MAILBOXES {
        let taken = last.iter().filter_map(|what| what.get(name));
        let mut taken: Vec<u64> = taken.filter_map(Value::as_u64).collect();
        if program.keeps() {
            taken.sort_unstable();
        }
        let sent: Vec<u64> = (1..=u64::from(program.most_of(name)) + 2).collect();
        assert_eq!(taken, sent, "seed {seed}: mailbox {name} of {last:?}");
    }
}

async fn check_all(parked: usize) {
    let one = std::env::var("ABIDE_PROGRAM").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("a number"));
    let count = std::env::var("ABIDE_PROGRAMS").ok();
    let count = count.map_or(PROGRAMS, |count| count.parse().expect("a number"));
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        check(seed, parked).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_take_every_signal_once_and_in_order_however_their_processes_end() {
    check_all(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_are_evicted_at_each_wait_take_every_signal_once_and_in_order() {
    check_all(0).await;
}
