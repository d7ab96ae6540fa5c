//! A service whose orders only a token of the scope `orders:read` opens.
//!
//! ```sh
//! ADAMANT_SOCKET=adamant.sock cargo run --example orders --features axum
//! curl -H "Authorization: Bearer acme_live_1..." http://127.0.0.1:3000/orders
//! ```

use adamant::claims::Requirement;
use adamant::client::aio::Client;
use adamant::client::tower::{RequireToken, Verified};
use axum::Router;
use axum::routing::get;

async fn orders(Verified(access): Verified) -> String {
    format!("the orders that {} may see\n", access.id)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let need = Requirement::any().scope("orders:read");
    let orders = get(orders).layer(RequireToken::new(Client::from_env(), need));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, Router::new().route("/orders", orders)).await
}
