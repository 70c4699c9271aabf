//! Faults of a kernel or of a launch are noticed.
#![allow(clippy::unwrap_used, reason = "a test fails where its helper cannot continue")]

use dlt_kernels_host::{Argument, Elements, ElementsMut, Order, launch};

const ORDERS: [Order; 2] = [Order::Forwards, Order::Backwards];

#[test]
fn law_a_race_gives_other_results_in_another_order() {
    let [forwards, backwards] = ORDERS.map(|order| {
        let mut x = [0.0f32; 8];
        let arguments = &mut [Argument::Write(ElementsMut::F32(&mut x)), Argument::U32(8)];
        launch("faulty_race", [1, 1], 8, order, arguments).unwrap();
        x
    });

    assert_eq!(forwards, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(backwards, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
}

#[test]
fn law_shared_memory_is_no_number_until_it_is_written() {
    let mut x = [0.0f32; 32];
    let arguments = &mut [Argument::Write(ElementsMut::F32(&mut x))];
    launch("faulty_shared", [1, 1], 32, Order::Forwards, arguments).unwrap();
    assert!(x.iter().all(|x| x.is_nan()));
}

#[test]
fn rejects_access_outside_of_shared_memory() {
    let mut x = [0.0f32; 1];
    let arguments = &mut [Argument::Write(ElementsMut::F32(&mut x))];
    let fault =
        launch("faulty_bound", [1, 1], 64, Order::Forwards, arguments).unwrap_err().to_string();
    assert!(fault.contains("faulty_bound") && fault.contains("shared element 32 of 32"), "{fault}");
}

/// The fault of a launch of GELU on four numbers.
fn fault(kernel: &str, blocks: [u32; 2], threads: u32, count: Argument<'_>) -> String {
    let x = [1.0f32; 4];
    let mut y = [0.0f32; 4];
    let arguments =
        &mut [Argument::Read(Elements::F32(&x)), Argument::Write(ElementsMut::F32(&mut y)), count];
    launch(kernel, blocks, threads, Order::Forwards, arguments).unwrap_err().to_string()
}

#[test]
fn rejects_launches_that_do_not_fit_their_kernel() {
    for (kernel, blocks, threads, count, words) in [
        ("gelu_tanh_f32", [1, 1], 32, Argument::U64(5), "element 4 of 4"),
        ("gelu_tanh_f32", [1, 1], 32, Argument::U32(4), "which has 64 bits"),
        ("gelu_tanh_bf16", [1, 1], 32, Argument::U64(4), "another type"),
        ("gelu_tanh_f32", [1, 1], 48, Argument::U64(4), "power of two"),
        ("gelu_tanh_f32", [0, 1], 32, Argument::U64(4), "a grid that CUDA refuses"),
        ("gelu_tanh_f32", [1, 65_536], 32, Argument::U64(4), "a grid that CUDA refuses"),
        ("gelu_f32", [1, 1], 32, Argument::U64(4), "no kernel of that name"),
    ] {
        let fault = fault(kernel, blocks, threads, count);
        assert!(fault.contains(kernel) && fault.contains(words), "expected {words:?} in {fault}");
    }
}

#[test]
fn rejects_arguments_that_are_too_few_or_not_to_write() {
    let x = [1.0f32; 4];
    let mut y = [0.0f32; 4];
    let few = &mut [Argument::Write(ElementsMut::F32(&mut y))];
    let fault = launch("gelu_tanh_f32", [1, 1], 32, Order::Forwards, few).unwrap_err().to_string();
    assert!(fault.contains("number of arguments"), "{fault}");

    let read = || Argument::Read(Elements::F32(&x));
    let arguments = &mut [read(), read(), Argument::U64(4)];
    let fault =
        launch("gelu_tanh_f32", [1, 1], 32, Order::Forwards, arguments).unwrap_err().to_string();
    assert!(fault.contains("to read where the kernel writes"), "{fault}");

    let fault = launch("gelu\0", [1, 1], 32, Order::Forwards, &mut []).unwrap_err().to_string();
    assert!(fault.contains("the name of a kernel"), "{fault}");
}
