//! The macro that makes a user's type one that a manager can own.

/// Makes a type one whose values a [`Manager`](crate::manager::Manager) can own, and its proxies.
///
/// The type is serde, as its first value crosses to the manager's process. Each method that is listed is one of the type with
/// owned serde arguments and value; the list leaves out `self`. The proxy has the same methods on `&self`, each of which
/// runs in the manager's process, one at a time for each object, and returns a `Result` with
/// [`ManagerError`](crate::manager::ManagerError).
///
/// ```
/// use par_process::manager::Manager;
/// use par_process::{Process, managed};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Account {
///     balance: u64,
/// }
///
/// impl Account {
///     fn deposit(&mut self, amount: u64) -> u64 {
///         self.balance += amount;
///         self.balance
///     }
///
///     fn balance(&self) -> u64 {
///         self.balance
///     }
/// }
///
/// managed! {
///     /// An account that several processes use.
///     AccountProxy for Account {
///         fn deposit(amount: u64) -> u64;
///         fn balance() -> u64;
///     }
/// }
///
/// let manager = Manager::start()?;
/// let account = manager.own(Account { balance: 3 })?;
/// let child = Process::of_fn(account.clone(), |account: AccountProxy| {
///     account.deposit(4).expect("the manager lives");
/// })
/// .start()?;
/// assert_eq!(child.join()?, 0);
/// assert_eq!(account.balance()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
#[doc(alias = "BaseManager.register")]
macro_rules! managed {
    (
        $(#[$meta:meta])*
        $vis:vis $Proxy:ident for $Value:ty {
            $(
                $(#[$method_meta:meta])*
                fn $method:ident($($argument:ident: $Type:ty),* $(,)?) $(-> $Return:ty)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $Proxy($crate::manager::Proxy);

        impl $Proxy {
            $(
                $(#[$method_meta])*
                $vis fn $method(
                    &self,
                    $($argument: $Type),*
                ) -> ::std::result::Result<$crate::__managed_return!($($Return)?), $crate::manager::ManagerError> {
                    self.0.call(::std::stringify!($method), &($($argument,)*))
                }
            )*
        }

        impl $crate::manager::Remote for $Proxy {
            const KIND: &'static str = <$Value as $crate::manager::Managed>::NAME;

            fn from_proxy(proxy: $crate::manager::Proxy) -> Self {
                Self(proxy)
            }

            fn proxy(&self) -> &$crate::manager::Proxy {
                &self.0
            }
        }

        impl $crate::manager::macro_support::Serialize for $Proxy {
            fn serialize<S: $crate::manager::macro_support::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                $crate::manager::macro_support::Serialize::serialize(&self.0, serializer)
            }
        }

        impl<'de> $crate::manager::macro_support::Deserialize<'de> for $Proxy {
            fn deserialize<D: $crate::manager::macro_support::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                $crate::manager::macro_support::Deserialize::deserialize(deserializer).map(Self)
            }
        }

        impl $crate::manager::Shareable for $Value {
            type Proxy = $Proxy;
        }

        $crate::__managed_dispatch! {
            $Value,
            ::std::concat!(::std::module_path!(), "::", ::std::stringify!($Value)),
            { $(fn $method($($argument: $Type),*) $(-> $Return)?;)* }
        }

        const _: () = {
            #[$crate::macro_support::linkme::distributed_slice($crate::manager::macro_support::TYPES)]
            #[linkme(crate = $crate::macro_support::linkme)]
            static TYPE: $crate::manager::macro_support::ManagedType =
                $crate::manager::macro_support::ManagedType::of::<$Value>();
        };
    };
}

/// The methods of a type, by their names.
#[doc(hidden)]
#[macro_export]
macro_rules! __managed_dispatch {
    ($Value:ty, $name:expr, {
        $(fn $method:ident($($argument:ident: $Type:ty),* $(,)?) $(-> $Return:ty)?;)*
    }) => {
        impl $crate::manager::Managed for $Value {
            const NAME: &'static str = $name;

            #[allow(clippy::let_unit_value)]
            fn call(
                &mut self,
                method: &::std::primitive::str,
                arguments: &[::std::primitive::u8],
                reply: &mut ::std::vec::Vec<::std::primitive::u8>,
            ) -> ::std::result::Result<(), $crate::manager::Fault> {
                match method {
                    $(
                        ::std::stringify!($method) => {
                            let ($($argument,)*): ($($Type,)*) =
                                $crate::manager::macro_support::arguments(arguments)?;
                            let value: $crate::__managed_return!($($Return)?) = self.$method($($argument),*);
                            $crate::manager::macro_support::value(reply, &value)
                        }
                    )*
                    other => ::std::result::Result::Err($crate::manager::macro_support::unknown(
                        Self::NAME,
                        other,
                        &[$(::std::stringify!($method)),*],
                    )),
                }
            }
        }
    };
}

/// What a method returns.
#[doc(hidden)]
#[macro_export]
macro_rules! __managed_return {
    () => {
        ()
    };
    ($Return:ty) => {
        $Return
    };
}
