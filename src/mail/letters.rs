//! What mails say: one template for the HTML and one for the text of each sort, in `assets/mail/`.
//!
//! askama escapes everything that it puts into HTML, at compile time by the file's extension; the text part is plain. A
//! link stands alone on its line of the text part. Links start with the shop's public origin, never with what a request
//! claimed to be its host.

use askama::Template;

use super::{Mail, MailParts};
use crate::domain::events::RecommendedItem;
use crate::domain::ids::NotificationId;
use crate::domain::notifications::content::{Content, OrderNews};
use crate::domain::orders::OrderStatus;
use crate::domain::text::{Email, InvalidText};
use crate::domain::time::Timestamp;

/// One mail to one person, before it is put into words.
#[derive(Clone, Copy)]
pub struct Letter<'a> {
    pub notification_id: NotificationId,
    pub to: &'a Email,
    /// Of the recipient.
    pub name: &'a str,
    pub subject: &'a str,
    /// When the notification was made.
    pub at: Timestamp,
    pub content: &'a Content,
    /// The token of the link that the content is about: without one a welcome has no link, and a verification or a reset
    /// is not written.
    pub link_token: Option<&'a str>,
    /// Of standard mail: the token that ends mails of its sort.
    pub unsubscribe_token: Option<&'a str>,
}

/// Puts letters into words, with links into one shop.
pub struct Letters {
    /// Scheme, host and port of the shop.
    origin: String,
}

impl Letters {
    pub fn new(public_origin: impl Into<String>) -> Self {
        Self { origin: public_origin.into() }
    }

    /// Refuses a subject or a name that cannot stand in a header, and a token that cannot stand in a link.
    pub fn write(&self, letter: &Letter<'_>) -> Result<Mail, InvalidText> {
        let unsubscribe_url = letter.unsubscribe_token.map(|token| self.link("unsubscribe", token)).transpose()?;
        let frame = Frame { name: letter.name, subject: letter.subject, unsubscribe: unsubscribe_url.as_deref() };
        let needed = |page| {
            let token = letter.link_token.ok_or_else(|| InvalidText("the link's token is missing".into()))?;
            self.link(page, token)
        };
        let (text, html) = match letter.content {
            Content::Order(order) => {
                let news = order_words(order.status);
                both(OrderText { frame, news, order }, OrderHtml { frame, news, order })
            }
            Content::Welcome { .. } => {
                let link = &letter.link_token.map(|token| self.link("verify", token)).transpose()?;
                both(WelcomeText { frame, link }, WelcomeHtml { frame, link })
            }
            Content::Verification { .. } => {
                let link = &needed("verify")?;
                both(VerificationText { frame, link }, VerificationHtml { frame, link })
            }
            Content::PasswordReset { .. } => {
                let link = &needed("reset")?;
                both(PasswordResetText { frame, link }, PasswordResetHtml { frame, link })
            }
            Content::PasswordChanged => both(PasswordChangedText { frame }, PasswordChangedHtml { frame }),
            Content::Promotion { message, products, .. } => {
                both(PromotionText { frame, message, products }, PromotionHtml { frame, message, products })
            }
            Content::Digest { items } => both(DigestText { frame, items }, DigestHtml { frame, items }),
        };
        Mail::new(MailParts {
            notification_id: letter.notification_id,
            to: letter.to.clone(),
            name: letter.name.to_owned(),
            subject: letter.subject.to_owned(),
            at: letter.at,
            text,
            html,
            unsubscribe_url,
        })
    }

    fn link(&self, page: &str, token: &str) -> Result<String, InvalidText> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)) {
            return Err(InvalidText("a token has characters that no link can carry".into()));
        }
        Ok(format!("{}/mail/{page}?token={token}", self.origin))
    }
}

fn both(text: impl Template, html: impl Template) -> (String, String) {
    let written = "writing into a string does not fail, and neither does what the templates print";
    (text.render().expect(written), html.render().expect(written))
}

/// What became of an order, behind its number.
fn order_words(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "was received.",
        OrderStatus::Confirmed => "is confirmed. We are getting it ready.",
        OrderStatus::Rejected => "could not be accepted. Nothing was reserved, and nothing is to be paid.",
        OrderStatus::Shipped => "is on its way to you.",
        OrderStatus::Delivered => "was delivered. We hope that you like it.",
        OrderStatus::Cancelled => "is cancelled. Nothing of it will be sent.",
    }
}

/// What every mail has around its content.
#[derive(Clone, Copy)]
struct Frame<'a> {
    name: &'a str,
    subject: &'a str,
    unsubscribe: Option<&'a str>,
}

/// The two templates of one sort of mail, with what they name.
macro_rules! templates {
    ($text:ident $text_file:tt, $html:ident $html_file:tt, { $($field:ident: $type:ty),* }) => {
        #[derive(Template)]
        #[template(path = $text_file)]
        struct $text<'a> { frame: Frame<'a>, $($field: $type),* }

        #[derive(Template)]
        #[template(path = $html_file)]
        struct $html<'a> { frame: Frame<'a>, $($field: $type),* }
    };
}

templates!(OrderText "order.txt", OrderHtml "order.html", { news: &'a str, order: &'a OrderNews });
templates!(WelcomeText "welcome.txt", WelcomeHtml "welcome.html", { link: &'a Option<String> });
templates!(VerificationText "verification.txt", VerificationHtml "verification.html", { link: &'a str });
templates!(PasswordResetText "password_reset.txt", PasswordResetHtml "password_reset.html", { link: &'a str });
templates!(PasswordChangedText "password_changed.txt", PasswordChangedHtml "password_changed.html", {});
templates!(PromotionText "promotion.txt", PromotionHtml "promotion.html", { message: &'a str, products: &'a [String] });
templates!(DigestText "digest.txt", DigestHtml "digest.html", {
    items: &'a [RecommendedItem]
});

#[cfg(test)]
mod tests;
