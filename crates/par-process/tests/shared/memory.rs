//! Segments: how they travel, who sees them, and what becomes of them.

use crate::clean::{clean, decoded, encoded, reached, start};
use par_process::{
    FrozenArray, ProcessPool, RawArray, RawValue, SharedArray, SharedError, SharedMemory, SharedOptions,
    SharedValue, task,
};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};

fn name(of: &str) -> String {
    format!("test-{of}-{}", std::process::id())
}

#[test]
fn a_moved_handle_arrives() {
    clean(|| {
        let done = RawValue::new(0_u32).expect("memory");
        let array = RawArray::from_slice(&[1_u64, 2, 3]).expect("memory");
        // The only handle goes into the process: it is kept until it has arrived.
        let child = start((array, done.clone()), |(array, done)| {
            assert_eq!(array.to_vec(), [1, 2, 3]);
            done.store(7);
        });
        assert_eq!(child.ends(), 0);
        assert_eq!(done.load(), 7);
    });
}

#[task]
fn squares(n: usize) -> RawArray<u64> {
    let fill = |place: &mut [u64]| (0_u64..).zip(place).for_each(|(i, square)| *square = i * i);
    RawArray::with(n, SharedOptions::new(), fill).expect("memory")
}

#[task]
fn sum(array: FrozenArray<u64>) -> u64 {
    array.iter().sum()
}

#[test]
fn tasks_take_and_return_handles() {
    clean(|| {
        // One worker: where an idle one takes over what waits behind another, its tokens are written again, and the first are kept for
        // minutes, as nobody asks for them.
        let pool = ProcessPool::new(1).expect("starts");
        let arrays = pool.map::<squares>(0..20).expect("arrays");
        for (n, array) in arrays.iter().enumerate() {
            let expected: Vec<_> = (0..n as u64).map(|i| i * i).collect();
            assert_eq!(array.to_vec(), expected);
        }
        let table = FrozenArray::from_slice(&[1, 2, 3]).expect("memory");
        let sums = pool.map::<sum>(vec![table; 50]).expect("sums");
        assert_eq!(sums, [6; 50]);
    });
}

#[test]
fn a_token_outlives_nobody() {
    clean(|| {
        let slot = RawArray::<u8>::zeroed(256).expect("memory");
        let (step, length) = (
            RawValue::new(0_u32).expect("memory"),
            RawValue::new(0_u64).expect("memory"),
        );
        let child = start(
            (slot.clone(), length.clone(), step.clone()),
            |(slot, length, step)| {
                let token = encoded(&RawValue::new(5_u32).expect("memory"));
                slot.write(0, &token).expect("room");
                length.store(token.len() as u64);
                step.store(1);
                std::thread::sleep(crate::clean::LONG);
            },
        );
        reached(&step, 1);
        let token = slot.to_vec()[..length.load() as usize].to_vec();
        let value: RawValue<u32> = decoded(&token).expect("its process lives");
        assert_eq!(value.load(), 5);
        drop(value);
        // It was kept for one token, and nobody there has a handle.
        let error = decoded::<RawValue<u32>>(&token).expect_err("gone");
        assert!(error.contains("has let go of it"), "{error}");
        child.kill();
        let error = decoded::<RawValue<u32>>(&token).expect_err("gone");
        assert!(error.contains("has ended"), "{error}");
        assert!(error.contains("keep a handle in its process"), "{error}");
    });
}

/// Makes something, tells its token, and sleeps.
fn teller((slot, length, step): (RawArray<u8>, RawValue<u64>, RawValue<u32>)) {
    let value = RawValue::new(5_u32).expect("memory");
    let token = encoded(&value);
    slot.write(0, &token).expect("room");
    length.store(token.len() as u64);
    step.store(1);
    std::thread::sleep(crate::clean::LONG);
    drop(value);
}

#[test]
fn a_stopped_owner_hangs_nobody() {
    clean(|| {
        let slot = RawArray::<u8>::zeroed(256).expect("memory");
        let (step, length) = (
            RawValue::new(0_u32).expect("memory"),
            RawValue::new(0_u64).expect("memory"),
        );
        let child = start((slot.clone(), length.clone(), step.clone()), teller);
        reached(&step, 1);
        child.stop();
        let token = slot.to_vec()[..length.load() as usize].to_vec();
        let error = decoded::<RawValue<u32>>(&token).expect_err("it is stopped");
        assert!(error.contains("does not answer within 10s"), "{error}");
        child.signal("-CONT");
        let value: RawValue<u32> = decoded(&token).expect("it goes on");
        assert_eq!(value.load(), 5);
    });
}

#[test]
fn without_files_there_is_an_error_and_then_a_way() {
    clean(|| {
        let value = RawValue::new(3_u32).expect("memory");
        let child = start(encoded(&value), |token: Vec<u8>| {
            use rustix::process::{Resource, getrlimit, setrlimit};
            let before = getrlimit(Resource::Nofile);
            let mut few = before;
            few.current = Some(64);
            setrlimit(Resource::Nofile, few).expect("lower");
            let mut files = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                files.push(file);
            }
            for _ in 0..3 {
                let error = RawValue::new(1_u32).expect_err("no file");
                assert_eq!(error.to_string(), "cannot create shared memory");
                decoded::<RawValue<u32>>(&token).expect_err("no file");
                // One for the socket, none for what comes through it.
                let one = files.pop();
                decoded::<RawValue<u32>>(&token).expect_err("one file");
                drop(one);
                files.extend(std::fs::File::open("/dev/null"));
            }
            drop(files);
            setrlimit(Resource::Nofile, before).expect("as before");
            assert_eq!(decoded::<RawValue<u32>>(&token).expect("files").load(), 3);
            assert_eq!(RawValue::new(1_u32).expect("files").load(), 1);
        });
        assert_eq!(child.ends(), 0);
    });
}

#[test]
fn a_token_is_of_one_type() {
    clean(|| {
        let value = SharedValue::new(1_u32).expect("memory");
        for error in [
            decoded::<SharedValue<i32>>(&encoded(&value)).expect_err("another type"),
            decoded::<SharedArray<u32>>(&encoded(&value)).expect_err("another shape"),
            decoded::<RawValue<u32>>(&encoded(&value)).expect_err("another kind"),
        ] {
            assert!(error.contains("Mutex<u32>"), "{error}");
        }
        let child = start(encoded(&value), |token: Vec<u8>| {
            let error = decoded::<SharedValue<f32>>(&token).expect_err("another type");
            assert!(
                error.contains("Mutex<u32>") && error.contains("Mutex<f32>"),
                "{error}"
            );
        });
        assert_eq!(child.ends(), 0);
        assert!(decoded::<RawValue<u32>>(&[9; 40]).is_err());
    });
}

#[test]
fn a_name_is_its_publishers() {
    clean(|| {
        let name = name("publisher");
        let missing = SharedMemory::open(&name).expect_err("nobody");
        assert!(matches!(missing, SharedError::NoSuchName(_)), "{missing}");
        let step = RawValue::new(0_u32).expect("memory");
        let child = start(
            (name.clone(), step.clone()),
            |(name, step): (String, RawValue<u32>)| {
                let memory = SharedMemory::from_slice(b"hello").expect("memory");
                let _published = memory.publish(&name).expect("free");
                step.store(1);
                std::thread::sleep(crate::clean::LONG);
            },
        );
        reached(&step, 1);
        let memory = SharedMemory::open(&name).expect("published");
        let taken = memory.publish(&name).expect_err("there");
        assert!(matches!(taken, SharedError::Taken(_)), "{taken}");
        let other = RawArray::<u16>::open(&name).expect_err("bytes");
        assert!(matches!(other, SharedError::Type { .. }), "{other}");
        child.kill();
        // The name is gone with its publisher, the memory with its last user.
        assert!(matches!(
            SharedMemory::open(&name),
            Err(SharedError::NoSuchName(_))
        ));
        assert_eq!(memory.to_vec(), b"hello");
        let published = memory.publish(&name).expect("free again");
        assert_eq!(published.name(), name);
        drop(published);
        drop(memory.publish(&name).expect("free at once"));
    });
}

#[test]
fn bad_names_are_refused() {
    clean(|| {
        let memory = SharedMemory::zeroed(1).expect("memory");
        for bad in ["", "a\0b", "a\nb", &"x".repeat(65)] {
            let error = memory.publish(bad).expect_err("refused");
            assert!(matches!(error, SharedError::Name { .. }), "{error}");
            SharedMemory::open(bad).expect_err("refused");
        }
        let longest = "x".repeat(64);
        drop(memory.publish(&longest).expect("fits"));
    });
}

/// A publisher that hands over what it likes.
fn impostor(name: &str, file: Option<&OwnedFd>) -> String {
    let user = rustix::process::geteuid().as_raw();
    let address = SocketAddrUnix::new_abstract_name(format!("par-process/{user}/n/{name}").as_bytes());
    let door = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    rustix::net::bind(&door, &address.expect("short enough")).expect("free");
    rustix::net::listen(&door, 1).expect("listens");
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| SharedMemory::open(name).expect_err("an impostor").to_string());
        let peer = rustix::net::accept(&door).expect("it comes");
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || control.push(SendAncillaryMessage::ScmRights(&files)));
        rustix::net::sendmsg(&peer, &[IoSlice::new(b"+")], &mut control, SendFlags::empty()).expect("sent");
        opened.join().expect("it does not panic")
    })
}

#[test]
fn impostors_are_found_out() {
    clean(|| {
        let name = name("impostor");
        impostor(&name, None);
        let null: OwnedFd = std::fs::File::open("/dev/null").expect("a file").into();
        let error = impostor(&name, Some(&null));
        assert!(error.contains("it is no memory"), "{error}");
        let memory = |bytes: &[u8], seals| {
            let file = rustix::fs::memfd_create("impostor", MemfdFlags::ALLOW_SEALING).expect("memory");
            std::fs::File::from(file.try_clone().expect("a file"))
                .write_all(bytes)
                .expect("room");
            rustix::fs::fcntl_add_seals(&file, seals).expect("seals");
            file
        };
        let error = impostor(&name, Some(&memory(&[0; 4096], SealFlags::GROW)));
        assert!(error.contains("its size is not sealed"), "{error}");
        let sized = SealFlags::GROW | SealFlags::SHRINK;
        let error = impostor(&name, Some(&memory(&[0; 10], sized)));
        assert!(error.contains("it is too short"), "{error}");
        let error = impostor(&name, Some(&memory(&[0; 4096], sized)));
        assert!(error.contains("it does not begin as one"), "{error}");
    });
}

#[test]
fn noise_at_the_door_hurts_nobody() {
    clean(|| {
        let value = RawValue::new(3_u32).expect("memory");
        // Opens the door, if nothing did before.
        let token = encoded(&value);
        let sockets = std::fs::read_to_string("/proc/net/unix").expect("a file of the system");
        let own = format!("/p/{}-", std::process::id());
        let address = sockets
            .lines()
            .filter_map(|line| line.rsplit_once('@'))
            .find(|(_, address)| address.contains(&own))
            .map(|(_, address)| address.to_owned())
            .expect("a door");
        let callers: Vec<_> = (0..200_usize)
            .map(|i| {
                let socket = rustix::net::socket_with(
                    AddressFamily::UNIX,
                    SocketType::SEQPACKET,
                    SocketFlags::CLOEXEC,
                    None,
                )
                .expect("a socket");
                let address = SocketAddrUnix::new_abstract_name(address.as_bytes()).expect("short enough");
                rustix::net::connect(&socket, &address).expect("it listens");
                // Every third says nothing.
                if i % 3 > 0 {
                    let _ = rustix::net::send(&socket, &vec![i as u8; i * 7 + 1], SendFlags::NOSIGNAL);
                }
                socket
            })
            .collect();
        let child = start(token, |token: Vec<u8>| {
            assert_eq!(decoded::<RawValue<u32>>(&token).expect("it answers").load(), 3);
        });
        assert_eq!(child.ends(), 0);
        drop(callers);
    });
}

#[test]
fn what_is_frozen_stays() {
    clean(|| {
        let table = FrozenArray::from_slice(&[1_u32, 2, 3]).expect("memory");
        let child = start(table.clone(), |table: FrozenArray<u32>| {
            assert_eq!(*table, [1, 2, 3]);
            let links = std::fs::read_dir("/proc/self/fd").expect("a folder of the system");
            let mut tried = 0;
            for link in links.flatten() {
                let target = std::fs::read_link(link.path()).unwrap_or_default();
                if target.to_string_lossy().contains("memfd:par-process") {
                    let mut file = std::fs::OpenOptions::new()
                        .write(true)
                        .open(link.path())
                        .expect("its own");
                    let error = file.write(&[0; 512]).expect_err("sealed");
                    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
                    tried += 1;
                }
            }
            assert_eq!((tried, &*table), (1, &[1, 2, 3][..]));
        });
        assert_eq!(child.ends(), 0);
        // What is not frozen cannot be taken for it.
        let open = RawArray::from_slice(&[1_u32]).expect("memory");
        decoded::<FrozenArray<u32>>(&encoded(&open)).expect_err("not sealed");
    });
}

#[test]
fn too_much_is_an_error() {
    clean(|| {
        for length in [usize::MAX, usize::MAX / 8, 1 << 60] {
            RawArray::<u64>::zeroed(length).expect_err("too much");
        }
        SharedMemory::zeroed(1 << 60).expect_err("more than can be addressed");
        let array = RawArray::<u32>::zeroed(4).expect("memory");
        assert_eq!((array.get(3), array.get(4)), (Some(0), None));
        for (start, count) in [(4, 1), (0, 5), (usize::MAX, 2)] {
            let error = array.write(start, &vec![0; count]).expect_err("beyond the end");
            assert!(matches!(error, SharedError::Range { length: 4, .. }), "{error}");
        }
        array.write(4, &[]).expect("nothing");
        assert!(RawArray::<u32>::zeroed(0).expect("memory").is_empty());
    });
}

#[test]
fn huge_pages_are_aligned() {
    clean(|| {
        let options = SharedOptions::new().huge_pages(true);
        let array = FrozenArray::<u64>::with(1 << 19, options, |values| values.fill(3)).expect("memory");
        let child = start(array.clone(), |array: FrozenArray<u64>| {
            assert_eq!(array.as_ptr() as usize % (2 << 20), 0);
            assert!(array.iter().all(|value| *value == 3));
        });
        assert_eq!(child.ends(), 0);
        assert_eq!(array.as_ptr() as usize % (2 << 20), 0);
    });
}

#[test]
fn memory_goes_with_its_last_user_also_after_kills() {
    clean(|| {
        let step = RawValue::new(0_u32).expect("memory");
        let name = name("everyone");
        let owner = start(
            (name.clone(), step.clone()),
            |(name, step): (String, RawValue<u32>)| {
                let memory = SharedMemory::zeroed(1 << 20).expect("memory");
                let _published = memory.publish(&name).expect("free");
                step.store(1);
                std::thread::sleep(crate::clean::LONG);
            },
        );
        reached(&step, 1);
        let user = start(
            (name.clone(), step.clone()),
            |(name, step): (String, RawValue<u32>)| {
                let _memory = SharedMemory::open(&name).expect("published");
                step.store(2);
                std::thread::sleep(crate::clean::LONG);
            },
        );
        reached(&step, 2);
        owner.kill();
        user.kill();
        SharedMemory::open(&name).expect_err("nobody has it");
    });
}

#[cfg(feature = "ndarray")]
#[test]
fn arrays_are_seen_as_matrices() {
    clean(|| {
        let matrix = SharedArray::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("memory");
        let child = start(matrix.clone(), |matrix: SharedArray<f64>| {
            let mut guard = matrix.lock().expect("free");
            let mut view = guard.array_view_mut((2, 3)).expect("six");
            view.row_mut(1).fill(0.0);
        });
        assert_eq!(child.ends(), 0);
        let guard = matrix.lock().expect("free");
        let view = guard.array_view((2, 3)).expect("six");
        assert_eq!((view[[0, 2]], view.sum()), (3.0, 6.0));
        guard.array_view((2, 2)).expect_err("four, of six");
    });
}
