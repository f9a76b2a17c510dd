//! The schedules and triggers of campaigns, from their settings to what the domain takes.

use super::{CampaignsConfig, ScheduleConfig, ScheduleKind};
use crate::domain::campaign_triggers::TriggerRules;
use crate::domain::campaigns::{Audience, Pitch};
use crate::domain::schedules::Schedule;
use crate::domain::text::{MAX_NAME, check_text};

impl CampaignsConfig {
    /// The schedules, checked; what is wrong with the first that cannot be one.
    pub fn schedules(&self) -> Result<Vec<Schedule>, String> {
        let mut schedules: Vec<Schedule> = Vec::new();
        for configured in &self.schedules {
            let schedule = configured.schedule()?;
            if schedules.iter().any(|earlier| earlier.name == schedule.name) {
                return Err(format!("there are two of the name `{}`", schedule.name));
            }
            schedules.push(schedule);
        }
        Ok(schedules)
    }

    pub fn triggers(&self) -> TriggerRules {
        TriggerRules { price_cut_percent: self.price_cut_percent, back_in_stock: self.back_in_stock }
    }
}

impl ScheduleConfig {
    fn schedule(&self) -> Result<Schedule, String> {
        check_text("the name", &self.name, 1, MAX_NAME).map_err(|refusal| refusal.to_string())?;
        let about = |what: &dyn std::fmt::Display| format!("`{}`: {what}", self.name);
        let audience = match (self.kind, self.category.as_str()) {
            (ScheduleKind::Favourites, "") => Audience::Favourites,
            (ScheduleKind::Favourites, _) => {
                return Err(about(&"kind favourites chooses the categories itself, but a category is given"));
            }
            (ScheduleKind::Message, "") => Audience::Everybody,
            (ScheduleKind::Message, category) => Audience::BuyersOf(category.to_owned()),
        };
        let pitch = Pitch { subject: self.subject.clone(), message: self.message.clone(), audience };
        pitch.check().map_err(|invalid| about(&invalid))?;
        Schedule::new(self.name.clone(), &self.cron, pitch).map_err(|invalid| about(&invalid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weekly() -> ScheduleConfig {
        ScheduleConfig {
            name: "weekly".into(),
            cron: "0 9 * * MON".into(),
            subject: "New this week".into(),
            message: "Picked from what you like.".into(),
            ..ScheduleConfig::default()
        }
    }

    fn checked(schedules: &[ScheduleConfig]) -> Result<Vec<Schedule>, String> {
        CampaignsConfig { schedules: schedules.to_vec(), ..CampaignsConfig::default() }.schedules()
    }

    #[test]
    fn a_schedule_says_what_and_to_whom() {
        let message = ScheduleConfig { name: "all".into(), kind: ScheduleKind::Message, ..weekly() };
        let narrowed = ScheduleConfig { name: "some".into(), category: "Tea".into(), ..message.clone() };
        let schedules = checked(&[weekly(), message, narrowed]).unwrap();
        let audiences: Vec<_> = schedules.into_iter().map(|schedule| schedule.pitch.audience).collect();
        assert_eq!(audiences, [Audience::Favourites, Audience::Everybody, Audience::BuyersOf("Tea".into())]);
    }

    #[test]
    fn what_cannot_be_a_schedule_is_refused() {
        for (wrong, why) in [
            (ScheduleConfig { name: String::new(), ..weekly() }, "the name"),
            (ScheduleConfig { cron: "sometimes".into(), ..weekly() }, "`weekly`: `sometimes` is no cron expression"),
            (ScheduleConfig { subject: String::new(), ..weekly() }, "`weekly`: the subject"),
            (ScheduleConfig { message: String::new(), ..weekly() }, "`weekly`: the message"),
            (ScheduleConfig { category: "Tea".into(), ..weekly() }, "`weekly`: kind favourites"),
        ] {
            let refused = checked(&[wrong]).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
        assert_eq!(checked(&[weekly(), weekly()]).unwrap_err(), "there are two of the name `weekly`");
    }
}
