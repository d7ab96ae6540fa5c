//! What holds under every schedule that was tried.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::thread::{self, JoinHandle};
use shuttle::{MaxSteps, Runner};

use super::super::Live;
use super::super::loader::Loader;
use super::super::seats::Seats;
use super::world::{Answer, LAST, NOTED, Published, Reader, SOUND, Seen, World};
use crate::policy::Stale;
use crate::verdict::Verdict;

/// Schedules of each test, half of them drawn evenly, and half with priorities that change at few
/// places. On every push, and with `ADAMANT_RELEASE=1` in the environment.
const SCHEDULES: usize = 1_000;
const SCHEDULES_RELEASE: usize = 20_000;
/// At how many places the priorities change.
const CHANGES: usize = 3;
const SEED: u64 = 0x41_44_4d_54;
/// A schedule has a few hundred steps. One of so many waits for what never comes.
const STEPS_MAX: usize = 50_000;
/// Signatures, TOML and paths on one stack.
const STACK_BYTES: usize = 512 << 10;
/// Ticks of each reader.
const TICKS: usize = 3;

fn try_schedules(model: fn(&Arc<Published>)) {
    let is_release = std::env::var_os("ADAMANT_RELEASE").is_some();
    let each = if is_release { SCHEDULES_RELEASE } else { SCHEDULES } / 2;
    let published = Arc::new(Published::make());
    run(RandomScheduler::new_from_seed(SEED, each), &published, model);
    run(PctScheduler::new_from_seed(SEED, CHANGES, each), &published, model);
}

fn run(
    scheduler: impl Scheduler + 'static,
    published: &Arc<Published>,
    model: fn(&Arc<Published>),
) {
    let published = Arc::clone(published);
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    Runner::new(scheduler, config).run(move || model(&published));
}

/// Readers, each of which looks at its answers in order.
fn readers<L: FnMut(Answer)>(
    world: &World,
    live: &Arc<Live>,
    look: impl Fn() -> L + Clone + Send + 'static,
) -> [JoinHandle<()>; 2] {
    [(); 2].map(|()| {
        let (mut reader, look) = (Reader::new(world, live), look.clone());
        thread::spawn(move || {
            let mut look = look();
            (0..TICKS).for_each(|_| look(reader.ask()));
        })
    })
}

fn always_available() -> impl FnMut(Answer) {
    |answer| assert!(answer.is_available, "{answer:?}")
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Looks at store and policy, and at what is served then.
fn reconsider(loader: &mut Loader, seen: &mut Seen) {
    loader.reconsider();
    seen.look(&loader.live());
    assert!(seen.bases_alive() <= 2, "{} bases are in memory", seen.bases_alive());
}

/// Nothing but what is served is in memory, and then nothing.
fn end(loader: Loader, live: Arc<Live>, seen: &Seen) {
    seen.wait_until_alive(1);
    drop(loader);
    drop(live);
    seen.wait_until_alive(0);
}

#[test]
fn a_reader_has_one_whole_generation_and_all_others_are_let_go() {
    try_schedules(|published| {
        let world = World::new(published);
        let mut loader = world.loader();
        let live = loader.live();
        let mut seen = Seen::from(&live);
        let readers = readers(&world, &live, always_available);
        for generation in 1..=LAST {
            world.publish(generation);
            reconsider(&mut loader, &mut seen);
        }
        join(readers);
        end(loader, live, &seen);
    });
}

/// What is served is served on, under another policy. It used to be retired nevertheless, twice in
/// the end, and then neither it nor any that came after it was ever let go.
#[test]
fn a_generation_that_is_served_on_under_another_policy_is_let_go_once() {
    try_schedules(|published| {
        let world = World::new(published);
        let mut loader = world.loader();
        let live = loader.live();
        let mut seen = Seen::from(&live);
        let readers = readers(&world, &live, always_available);
        for (generation, stale) in
            [(1, Stale::ServeFlagged), (3, Stale::Refuse), (4, Stale::Refuse)]
        {
            world.publish(generation);
            world.set_stale(stale);
            reconsider(&mut loader, &mut seen);
        }
        join(readers);
        end(loader, live, &seen);
    });
}

#[test]
fn what_a_note_revokes_is_valid_to_nobody_who_asks_after_it_was_applied() {
    try_schedules(|published| {
        let world = World::new(published);
        let mut loader = world.loader();
        let live = loader.live();
        let applied = Arc::new(AtomicU64::new(0));
        let asking = [(); 2].map(|()| {
            let (mut reader, applied) = (Reader::new(&world, &live), Arc::clone(&applied));
            thread::spawn(move || {
                for _ in 0..TICKS {
                    let before = applied.load(Ordering::SeqCst);
                    let answer = reader.ask();
                    assert!(answer.is_available && answer.note >= before, "{before} {answer:?}");
                    assert!(before == 0 || answer.of(NOTED) == Verdict::Revoked, "{answer:?}");
                }
            })
        });
        for (generation, note) in [(1, 1), (3, 1), (4, 2)] {
            world.publish(generation);
            world.note(note);
            loader.reconsider();
            applied.store(note, Ordering::SeqCst);
        }
        join(asking);
    });
}

#[test]
fn a_withdrawn_signer_is_trusted_by_nobody_who_asks_after_the_look() {
    try_schedules(|published| {
        let world = World::new(published);
        let mut loader = world.loader();
        let live = loader.live();
        let mut seen = Seen::from(&live);
        let withdrawn = Arc::new(AtomicBool::new(false));
        let asking = [(); 2].map(|()| {
            let (mut reader, withdrawn) = (Reader::new(&world, &live), Arc::clone(&withdrawn));
            thread::spawn(move || {
                for _ in 0..TICKS {
                    let before = withdrawn.load(Ordering::SeqCst);
                    let answer = reader.ask();
                    let is_trusted = !before || answer.generation == LAST;
                    assert!(is_trusted || !answer.is_available, "{answer:?}");
                }
            })
        });
        world.publish(3);
        reconsider(&mut loader, &mut seen);
        // Together with another generation of the same signer, which is judged first.
        world.publish(4);
        world.withdraw();
        reconsider(&mut loader, &mut seen);
        withdrawn.store(true, Ordering::SeqCst);
        world.publish(LAST);
        reconsider(&mut loader, &mut seen);
        join(asking);
        assert_eq!(Reader::new(&world, &live).ask().generation, LAST);
        end(loader, live, &seen);
    });
}

/// Two bases are swapped out there with no wait between them, and the last alone is waited for.
#[test]
fn a_slow_reader_keeps_no_third_base_over_a_repair() {
    try_schedules(|published| {
        let world = World::new(published);
        let mut loader = world.loader();
        let live = loader.live();
        let mut seen = Seen::from(&live);
        let readers = readers(&world, &live, || |_| {});
        world.publish(3);
        reconsider(&mut loader, &mut seen);
        world.withdraw();
        reconsider(&mut loader, &mut seen);
        world.set_stale(Stale::Refuse);
        reconsider(&mut loader, &mut seen);
        world.publish(4);
        reconsider(&mut loader, &mut seen);
        join(readers);
        assert_eq!(Reader::new(&world, &live).ask().of(SOUND), Verdict::Valid);
        end(loader, live, &seen);
    });
}

/// The copy is a base as well: it used to be made without a wait for the one before.
#[test]
fn a_writer_gets_its_way_and_readers_go_on() {
    try_schedules(|published| {
        let world = World::new(published).with_own_tables();
        let mut loader = world.loader();
        let live = loader.live();
        let mut seen = Seen::from(&live);
        let readers = readers(&world, &live, always_available);
        world.publish(3);
        reconsider(&mut loader, &mut seen);
        let generation = live.serving().generation.clone().unwrap();
        let path = world.at(&World::base_file(&generation));
        drop(generation);
        let mut writer = OpenOptions::new();
        writer.write(true).custom_flags(libc::O_NONBLOCK);
        assert_eq!(writer.open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        reconsider(&mut loader, &mut seen);
        world.publish(4);
        reconsider(&mut loader, &mut seen);
        join(readers);
        end(loader, live, &seen);
        writer.open(&path).unwrap();
    });
}

/// One publishes, another applies a note and withdraws a signer, and one thread loads.
#[test]
fn no_hint_is_lost_and_what_was_withdrawn_does_not_come_back() {
    try_schedules(|published| {
        let world = Arc::new(World::new(published));
        let loader = world.loader();
        let (live, trigger) = (loader.live(), loader.trigger());
        let keeper = loader.keep().unwrap();
        let publisher = thread::spawn({
            let (world, trigger) = (Arc::clone(&world), trigger.clone());
            move || {
                for generation in [2, 3, LAST] {
                    world.publish(generation);
                    trigger.pull();
                }
            }
        });
        let operator = thread::spawn({
            let (world, trigger) = (Arc::clone(&world), trigger.clone());
            move || {
                world.note(1);
                trigger.pull();
                world.withdraw();
                trigger.pull_for_systemd();
            }
        });
        let readers = readers(&world, &live, || {
            let mut was_withdrawn = false;
            move |answer| {
                was_withdrawn |= !answer.is_available;
                let is_trusted = !was_withdrawn || answer.generation == LAST;
                assert!(is_trusted || !answer.is_available, "{answer:?}");
            }
        });
        join([publisher, operator]);
        let mut reader = Reader::new(&world, &live);
        // Without another hint: if one was lost, this never ends.
        loop {
            let answer = reader.ask();
            let is_awaited = trigger.is_awaited.load(Ordering::SeqCst);
            if (answer.generation, answer.note, is_awaited) == (LAST, 1, false) {
                break;
            }
            thread::yield_now();
        }
        join(readers);
        drop(keeper);
    });
}

#[test]
fn the_loader_ends_with_its_keeper_whatever_hints_arrive() {
    try_schedules(|published| {
        let world = Arc::new(World::new(published));
        let loader = world.loader();
        let (live, trigger) = (loader.live(), loader.trigger());
        let mut seen = Seen::from(&live);
        let keeper = loader.keep().unwrap();
        let publisher = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                for generation in [3, 4] {
                    world.publish(generation);
                    trigger.pull();
                }
            }
        });
        seen.look(&live);
        drop(keeper);
        assert_eq!(Arc::strong_count(&live), 1, "the loader is gone");
        seen.look(&live);
        join([publisher]);
        seen.wait_until_alive(1);
        drop(live);
        seen.wait_until_alive(0);
    });
}

#[test]
fn seats_are_never_more_than_there_are_and_all_come_back() {
    try_schedules(|_| {
        let seats = Seats::new(2, 1);
        let taken = Arc::new(AtomicU64::new(0));
        let guests = [1, 1, 2, 3].map(|uid| {
            let (seats, taken) = (Arc::clone(&seats), Arc::clone(&taken));
            thread::spawn(move || {
                let Ok(seat) = seats.take(uid) else { return };
                assert!(taken.fetch_add(1, Ordering::SeqCst) < 2);
                taken.fetch_sub(1, Ordering::SeqCst);
                drop(seat);
            })
        });
        join(guests);
        let _both = (seats.take(1).unwrap(), seats.take(2).unwrap());
        assert!(seats.take(3).is_err());
    });
}
